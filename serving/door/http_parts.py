"""uvicorn's parsing of HTTP/1.1, bounded where a client pays a few bytes and the event loop milliseconds.

Beyond uvicorn (0.54): a limit of requests that wait behind one that is being answered; a limit of small chunks;
trailers are counted and dropped, never taken for headers (RFC 9110 §6.5.1); an offer to upgrade that is
not taken (Java's client offers h2c with every first request) does not lose the request's body, and nothing but a GET
becomes a WebSocket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http import flow_control, httptools_impl

TRAILER_BYTES = 32 << 10
MOST_WAITING = 64
FREE_CHUNKS = 4096
CHUNK_BYTES = 64  # on average, of a body with more chunks than that
FREE_BYTES = 1 << 20  # beside the contents of a body, of which there may be as many again
NO_CONTENTS = "the chunks of the body have more extensions than contents; send none"
INVALID = "Invalid HTTP request received."


class Refused(ValueError):
    """Raised in a callback of the parser, which then stops; its sentence is for the client."""


class BoundedParts(httptools_impl.HttpToolsProtocol):
    """`send_400_response` of the subclass tells the client."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._past_head = False
        self._trailer_bytes = self._chunks = self._chunk_bytes = self._read_bytes = 0
        self.current: Any = None  # the cycle that is being answered; `cycle` is that of the newest request
        super().connection_made(transport)
        self.flow = _Flow(transport, lambda: bool(self.pipeline))

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.send_400_response(str(cause) if isinstance(cause, Refused) else INVALID)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._read_body(data[upgrade.args[0] :])
        if self._past_head:
            self._read_bytes += len(data)
            if self._read_bytes > FREE_BYTES + 2 * self._chunk_bytes and not self.transport.is_closing():
                self.send_400_response(NO_CONTENTS)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._past_head = False
        self._trailer_bytes = self._chunks = self._chunk_bytes = self._read_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._past_head:
            super().on_header(name, value)
            return
        self._trailer_bytes += len(name) + len(value) + 4
        if self._trailer_bytes > TRAILER_BYTES:
            raise Refused(f"the trailers of the request have more than {TRAILER_BYTES} bytes; send none")

    def on_headers_complete(self) -> None:
        self._past_head = True
        super().on_headers_complete()
        if len(self.pipeline) > MOST_WAITING:
            raise Refused(f"more than {MOST_WAITING} requests wait on one connection; read the answers")

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > FREE_CHUNKS and self._chunk_bytes < self._chunks * CHUNK_BYTES:
            raise Refused(
                f"the body comes in more than {FREE_CHUNKS} chunks of less than {CHUNK_BYTES} bytes; send larger ones"
            )

    def on_body(self, body: bytes) -> None:
        self.count_body(len(body))
        super().on_body(body)

    def count_body(self, size: int) -> None:
        self._chunk_bytes += size

    def on_message_complete(self) -> None:
        if not self.only_head_came:
            super().on_message_complete()

    @property
    def body_bytes(self) -> int:
        """What the parser has seen of the body."""
        return self._chunk_bytes

    @property
    def only_head_came(self) -> bool:
        """To the parser a request that offers an upgrade ends with its head."""
        return self.parser.should_upgrade() and not self._should_upgrade()

    def _should_upgrade(self) -> bool:
        return self.scope["method"] == "GET" and not _framing(self.headers) and super()._should_upgrade()

    def _read_body(self, rest: bytes) -> None:
        """The body of a request that offered to go on in another protocol; afterwards the connection is closed."""
        self.cycle.keep_alive = False
        self.parser = httptools.HttpRequestParser(_BodyAlone(self))
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        lines = [name + b": " + value for name, value in _framing(self.headers)]
        self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *lines, b"connection: close", b"", b""]))
        if rest:
            self.data_received(rest)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.current = cycle
        super()._start_asgi_task(cycle, app)


class _BodyAlone:
    """Hands on what a parser says of a body."""

    def __init__(self, connection: BoundedParts):
        self.on_chunk_header = connection.on_chunk_header
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete


class _Flow(flow_control.FlowControl):
    """Reads nothing more while requests wait: each answer would let in as many as fit into a buffer."""

    def __init__(self, transport: asyncio.Transport, waiting: Callable[[], bool]):
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting():
            super().resume_reading()


def _framing(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers that say where a body ends; none where there is no body."""
    named = (b"content-length", b"transfer-encoding")
    return [(name, value) for name, value in headers if name in named and value.strip() != b"0"]
