"""Tells the door that a request has been prepared, and the length of its clips, 0 without any: an API key is charged.

One datagram a request on a Unix socket that only the server's own user reaches. None is waited for: one that is lost
is a clip for free, and the next long request goes on with the first token of this one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

VARIABLE = "AF3_AUDIO_USAGE"  # path of the socket; without it nothing is told
DATAGRAM_BYTES = 256


class UsageSender:
    """For one process of a step."""

    def __init__(self, path: str | None = None):
        self._path = os.environ.get(VARIABLE) if path is None else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def tell(self, request_id: str, seconds: float) -> None:
        """`request_id`: the door's."""
        if self._path:
            with suppress(OSError):  # the door is away, or has not read for long
                self._socket.sendto(f"{request_id} {seconds:.3f}".encode(), self._path)


class UsageReceiver:
    """For one event loop: calls `heard(request_id, seconds)`, until `close`."""

    def __init__(self, heard: Callable[[str, float], None]):
        self._heard = heard
        self._folder = Path(tempfile.mkdtemp(prefix="af3-door-"))  # for this user alone
        self.path = str(self._folder / "audio")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self.path)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while True:
                said = self._socket.recv(DATAGRAM_BYTES).decode(errors="replace")
                with suppress(ValueError):
                    request_id, seconds = said.split(" ")
                    self._heard(request_id, float(seconds))
