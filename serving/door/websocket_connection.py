"""uvicorn's WebSocket connection, which the application can cut off.

Of uvicorn's three implementations the one on websockets' sans-I/O layer: it stops reading while a message is not taken,
and bounds a message that comes in many frames. Beyond it (uvicorn 0.54): a buffer of small frames is parsed in slices,
frames that hold next to nothing are limited (so are the pongs that a client does not read), and neither text that is no
UTF-8 nor a handshake that is none stays without an answer or gets into the log.
"""

from __future__ import annotations

import time
from typing import Any

from uvicorn.protocols.websockets import websockets_sansio_impl
from websockets.frames import Frame

from serving.door.rate_limit import Bucket

MESSAGE_BYTES = 16 << 20  # as at OpenAI; four minutes of 24 kHz PCM in base64
PING_S = 20.0  # a client that has vanished is found out in twice that time
LINGER_S = 2.0  # for a client to read why it was closed; until then what it still sends is thrown away
SLICE_BYTES = 4 << 10  # a buffer of 64 KB may hold ten thousand frames
TINY_BYTES = 64
TINY_PER_MINUTE = 3000
POLICY_VIOLATION, INVALID_DATA = 1008, 1007
CONTROL_FRAMES = 8  # and above: closes, pings, pongs
# A close holds at most 123 bytes.
TOO_MANY_TINY = (
    f"more than {TINY_PER_MINUTE} pings, pongs and frames of less than {TINY_BYTES} bytes a minute"
)
NO_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class WebSocketConnection(websockets_sansio_impl.WebSocketsSansIOProtocol):
    """One TCP connection behind its HTTP upgrade."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._deaf = False
        self._came = b""  # and is not parsed yet; nothing is read meanwhile
        self._tiny = Bucket(TINY_PER_MINUTE, time.monotonic())

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._came += data
        self._parse()

    def _parse(self) -> None:
        """Slice by slice, until there is a message that the application has to take first."""
        while self._came and not (self.read_paused or self._deaf or self.transport.is_closing()):
            piece, self._came = self._came[:SLICE_BYTES], self._came[SLICE_BYTES:]
            super().data_received(piece)
            if not self.handshake_initiated and self.conn.handshake_exc is not None:
                self._deaf = True
                self.transport.write(b"".join(self.conn.data_to_send()) or NO_HANDSHAKE)
                self.transport.close()

    async def receive(self) -> Any:
        message = await super().receive()
        self._parse()
        return message

    def handle_events(self) -> None:
        tiny = sum(isinstance(event, Frame) and _is_tiny(event) for event in self.conn.events)
        if tiny and not self._may_send(tiny):
            self._fail(POLICY_VIOLATION, TOO_MANY_TINY)
            return
        super().handle_events()

    def _may_send(self, tiny: int) -> bool:
        now_s = time.monotonic()
        self._tiny.take(tiny, now_s)
        return not self._tiny.wait_s(0, now_s)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            self.frames = [b"".join(self.frames)]
            try:
                self.frames[0].decode()
            except UnicodeDecodeError:
                self._fail(INVALID_DATA, "a text message is not UTF-8")
                return
        super().send_receive_event_to_app()

    def _fail(self, code: int, reason: str) -> None:
        if self.close_sent:  # it was told why, and goes on
            self._deaf = True
            self.transport.abort()
            return
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """A message that is too large, or what is no frame. Closed at once, the client would lose the reason."""
        close = self.conn.close_sent
        assert close is not None
        self._deaf = self.close_sent = True
        self._came = b""
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.close)
        self.transport.resume_reading()

    async def run_asgi(self) -> None:
        self.scope["extensions"]["af3.connection"] = self  # type: ignore[index, assignment]
        await super().run_asgi()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            # A refusal is an end, too; uvicorn (0.54) would log it as an error, and strangers must not fill the log.
            self.handshake_complete = True


def _is_tiny(frame: Frame) -> bool:
    return len(frame.data) < TINY_BYTES or frame.opcode >= CONTROL_FRAMES
