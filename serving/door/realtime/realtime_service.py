"""`/v1/realtime`: the WebSocket of each session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from af3.errors import RequestError
from serving.door.http_body import http_status
from serving.door.realtime.realtime_answer import Means
from serving.door.realtime.realtime_events import error_body
from serving.door.realtime.realtime_limits import DEFAULT_REALTIME, RETRY_S, AudioMemory, RealtimeLimits
from serving.door.realtime.realtime_outbox import Outbox
from serving.door.realtime.realtime_session import RealtimeSession
from serving.door.realtime.sound_worker import SoundWorker
from serving.door.relay import Relay
from serving.door.stall_watch import StallWatch

PATH = "/v1/realtime"
SUBPROTOCOL = "realtime"  # of browsers, which cannot send headers
CLOSED_S = 10.0  # for the client to answer the close, then the connection is cut


class RealtimeService:
    """Translates Realtime for the relay."""

    prefix = PATH

    def __init__(self, relay: Relay, watch: StallWatch, limits: RealtimeLimits = DEFAULT_REALTIME):
        self._relay = relay
        self._watch = watch
        self._limits = limits
        self._memory = AudioMemory(limits)
        self.worker = SoundWorker()
        self._links: set[_Link] = set()
        self.routes: list[BaseRoute] = [
            WebSocketRoute(PATH, self._connect),
            Route(PATH, self._no_websocket),
        ]

    @staticmethod
    def error_body(error: RequestError) -> bytes:
        return json.dumps({"error": error_body(error)}).encode()

    @property
    def sessions(self) -> int:
        """At this moment."""
        return len(self._links)

    @property
    def audio_bytes(self) -> int:
        """Sound and text that all sessions hold."""
        return self._memory.bytes

    async def drain(self) -> None:
        """Close sessions, each when its answer has ended (1001)."""
        for link in list(self._links):
            link.session.drain()

    async def close(self) -> None:
        """Close the rest, and end the process that hears."""
        for link in list(self._links):
            link.end(1001, "the server is shutting down")
        await asyncio.gather(*(link.over.wait() for link in list(self._links)))
        await self.worker.close()

    async def _connect(self, socket: WebSocket) -> None:
        try:
            self._admit()
        except RequestError as error:
            headers = {} if error.retry_s is None else {"retry-after": str(error.retry_s)}
            body = self.error_body(error)
            await socket.send_denial_response(
                Response(body, http_status(error), headers, media_type="application/json")
            )
            return
        self.worker.start()
        link = _Link(socket, self)
        self._links.add(link)
        try:
            offered = socket.scope.get("subprotocols", [])
            await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
            await link.run(self._watch, self._limits)
        finally:
            self._links.discard(link)
            link.over.set()

    def _admit(self) -> None:
        """Raises RequestError when there is no session to be had now."""
        if not self._relay.admission.serving:
            self._relay.admission.check()
        if len(self._links) >= self._limits.sessions:
            raise RequestError(
                "UNAVAILABLE",
                f"{len(self._links)} sessions are open, the most that are accepted; try again in {RETRY_S} s",
                retry_s=RETRY_S,
            )

    def session(self, link: _Link) -> RealtimeSession:
        means = Means(self._relay, self.worker, self._limits, link.outbox.emit)
        return RealtimeSession(means, self._memory, link.end)

    def outbox(self, link: _Link) -> Outbox:
        return Outbox(self._limits.outbox_bytes, lambda: link.end(1008, "events were not read"))

    async def _no_websocket(self, request: Request) -> Response:
        error = RequestError("INVALID_ARGUMENT", f"{PATH} is a WebSocket; connect with ws:// or wss://")
        return Response(self.error_body(error), 426, {"upgrade": "websocket"}, media_type="application/json")


class _Link:
    """One WebSocket with its session."""

    def __init__(self, socket: WebSocket, service: RealtimeService):
        self._socket = socket
        self._ending: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.outbox = service.outbox(self)
        self.session = service.session(self)
        self.over = asyncio.Event()

    def end(self, code: int, reason: str) -> None:
        """Close the session. The first call counts."""
        if not self._ending.done():
            self._ending.set_result((code, reason))

    async def run(self, watch: StallWatch, limits: RealtimeLimits) -> None:
        connection = self._socket.scope.get("extensions", {}).get("af3.connection")

        def cut() -> None:
            self.end(1008, "events were not read")
            if connection is not None:
                connection.transport.abort()

        write = watch.begin(cut)

        async def send(text: str) -> None:
            with write:
                await self._socket.send_text(text)

        writing = asyncio.ensure_future(_until_left(self.outbox.write(send)))
        reading = asyncio.ensure_future(_until_left(self._read(limits)))
        expiry = asyncio.get_running_loop().call_later(
            limits.session_s, self.end, 1000, f"a session lasts at most {limits.session_s:g} s"
        )
        self.session.begin()
        try:
            ways: set[asyncio.Future[Any]] = {writing, reading, self._ending}
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            expiry.cancel()
            reading.cancel()
            await self.session.close()
            if self._ending.done() and not writing.done():
                await self.outbox.flush()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            watch.end(write)
        if self._ending.done():
            code, reason = self._ending.result()
            with suppress(RuntimeError, WebSocketDisconnect, OSError):
                await self._socket.close(code, reason)
        if connection is not None:
            asyncio.get_running_loop().call_later(CLOSED_S, connection.transport.abort)

    async def _read(self, limits: RealtimeLimits) -> None:
        while True:
            try:
                message = await asyncio.wait_for(self._socket.receive(), limits.idle_s)
            except asyncio.TimeoutError:
                self.end(1000, f"nothing was sent for {limits.idle_s:g} s")
                return
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                self.session.refuse_binary()
            else:
                await self.session.take(text.encode("utf-8", "surrogatepass"))


async def _until_left(work: Awaitable[None]) -> None:
    """A client that leaves is no fault."""
    with suppress(WebSocketDisconnect, RuntimeError, OSError):
        await work
