"""gRPC by bytes, for what no library sends: connections without a call, messages that never come whole."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from types import TracebackType

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK, END_HEADERS = 1, 4  # flags
INITIAL_WINDOW = 4  # of the settings
FRAME = 16_384


class RawGrpc:
    """One connection, whose settings have been exchanged. Use it as a context manager."""

    def __init__(
        self, url: str, source: str = "127.0.0.1", timeout_s: float = 10.0, window: int | None = None
    ):
        """`window`: bytes of answers that it lets the server send on each stream; it never asks for more."""
        host, _, port = url.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout_s, source_address=(source, 0))
        self._windows = {0: 65_535}
        self._of_new_stream = 65_535
        self._next = 1
        self._buffer = b""
        settings = b"" if window is None else struct.pack(">HI", INITIAL_WINDOW, window)
        self.socket.sendall(PREFACE + _frame(SETTINGS, payload=settings))
        self._read_frame()

    def __enter__(self) -> RawGrpc:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    @property
    def alive(self) -> bool:
        """Whether the server has left it open, as far as has come."""
        self.socket.setblocking(False)
        try:
            while block := self.socket.recv(65_536):
                self._buffer += block
            return False
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.socket.settimeout(10)

    def call(self, method: str) -> int:
        """Begin a call; the number of its stream."""
        stream, self._next = self._next, self._next + 2
        fields = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "x"}
        fields |= {"te": "trailers", "content-type": "application/grpc"}
        block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields.items())
        self._windows[stream] = self._of_new_stream
        self.socket.sendall(_frame(HEADERS, END_HEADERS, stream, block))
        return stream

    def send_part(self, stream: int, whole: int, part: int) -> int:
        """The beginning of a message of `whole` bytes; how much of it the server took before it broke off."""
        return self._send(stream, struct.pack(">BI", 0, whole) + bytes(part))

    def send_whole(self, stream: int, message: bytes) -> int:
        return self._send(stream, struct.pack(">BI", 0, len(message)) + message)

    def _send(self, stream: int, data: bytes) -> int:
        sent = 0
        with suppress(OSError, EOFError):
            while sent < len(data):
                room = min(self._windows[0], self._windows[stream], FRAME, len(data) - sent)
                if room <= 0:
                    self._read_frame()
                    continue
                self.socket.sendall(_frame(DATA, 0, stream, data[sent : sent + room]))
                self._windows[0] -= room
                self._windows[stream] -= room
                sent += room
        return sent

    def _read_frame(self) -> None:
        head = self._exactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        payload = self._exactly(length)
        if kind == WINDOW_UPDATE:
            self._windows[stream] = self._windows.get(stream, 0) + int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            for place in range(0, length, 6):
                name, value = struct.unpack(">HI", payload[place : place + 6])
                if name == INITIAL_WINDOW:
                    for known in self._windows.keys() - {0}:
                        self._windows[known] += value - self._of_new_stream
                    self._of_new_stream = value
            self.socket.sendall(_frame(SETTINGS, ACK))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(_frame(PING, ACK, 0, payload))

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            block = self.socket.recv(65_536)
            if not block:
                raise EOFError
            self._buffer += block
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found


def _frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()
