"""A large body on its way from the socket to whoever collects it, past the HTTP parser.

The parser has nothing to say about a body whose length is known, and copies it twice: into the bytes that it is given
and into those that it hands on. Here the socket is read into one buffer that all connections of a server share, and
each block goes from there to its place.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.door.http_connection import Connection

BLOCK_BYTES = 256 << 10  # stays in the processor's cache
LARGE_BYTES = 256 << 10  # less is not worth the change of protocol


class BodyReceiver(asyncio.BufferedProtocol):
    """Stands in for a connection until `left` bytes have come; then the connection goes on with the next request.

    Blocks that nobody collects (the body was refused, or its client gave up) are dropped.
    """

    def __init__(self, connection: Connection, cycle: Any, buffer: bytearray, left: int):
        self._connection = connection
        self._cycle = cycle
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._left = left

    def get_buffer(self, sizehint: int) -> memoryview:
        """Never more than the body: what follows it is for the parser."""
        return self._view[: self._left]

    def buffer_updated(self, nbytes: int) -> None:
        self._left -= nbytes
        collect = self._cycle.collect
        if collect is not None and not collect(self._buffer, nbytes):
            self._cycle.collect = None
            self._cycle.message_event.set()
        if not self._left:
            self._connection.body_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
