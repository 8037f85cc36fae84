"""uvicorn's WebSocket connection, which the application can cut off.

Of uvicorn's three implementations the one on websockets' sans-I/O layer: it stops reading while a message is not taken,
and bounds a message that comes in many frames.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets import websockets_sansio_impl

MESSAGE_BYTES = 16 << 20  # as at OpenAI; four minutes of 24 kHz PCM in base64
PING_S = 20.0  # a client that has vanished is found out in twice that time


LINGER_S = 2.0  # for a client to read why it was closed; until then what it still sends is thrown away


class WebSocketConnection(websockets_sansio_impl.WebSocketsSansIOProtocol):
    """One TCP connection behind its HTTP upgrade."""

    _deaf = False

    def data_received(self, data: bytes) -> None:
        if not self._deaf:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """A message that is too large, or what is no frame. Closed at once, the client would lose the reason."""
        close = self.conn.close_sent
        assert close is not None
        self._deaf = self.close_sent = True
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
