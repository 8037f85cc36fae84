"""The reply to one HTTP request that the relay answers, for every translator that speaks HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from af3.errors import RequestError
from serving.door import affinity
from serving.door.http_body import BlockCount, ClientLeft, ErrorBody, ErrorCode, read_body, send_error
from serving.door.json_body import StructureCount
from serving.door.relay import Question, Relay
from serving.door.relayed_answer import Answer
from serving.door.stall_watch import StallWatch
from serving.door.triton_errors import internal_error
from serving.door.wire_request import WireRequest

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would hold events back
}
REQUEST_ID_HEADER = "x-request-id"  # the door's, as it stands in the journal


def event(data: bytes) -> bytes:
    """One server-sent event."""
    return b"data: " + data + b"\n\n"


class Exchange:
    """The reply to one request. `error_body`: an error as the translator's clients read it; `error_code`: HTTP's."""

    def __init__(
        self,
        request: Request,
        send: Send,
        watch: StallWatch,
        error_body: ErrorBody,
        error_code: ErrorCode | None = None,
    ):
        self.request = request
        self._send = send
        self._error_body = error_body
        self._error_code = error_code
        self._connection = request.scope.get("extensions", {}).get("af3.connection")
        self._watch = watch
        self._write = watch.begin(self._stalled)
        self._request_id = ""
        self.affinity = ""
        self.started = False
        self.body_read = False
        self.client_id = ""

    @asynccontextmanager
    async def watched(self, answer: Answer) -> AsyncIterator[None]:
        """While the answer is written: a client that leaves cancels it."""
        self._request_id = answer.request_id
        self.client_id = answer.client_id
        leaving = asyncio.create_task(self._left())
        leaving.add_done_callback(lambda task: None if task.cancelled() else answer.cancel())
        try:
            yield
        finally:
            leaving.cancel()

    async def _left(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass

    def _stalled(self) -> None:
        if self._connection is not None:
            self._connection.transport.abort()

    async def start(self, headers: dict[str, str]) -> None:
        self.started = True
        fields = {**headers, REQUEST_ID_HEADER: self._request_id}
        if self.affinity:
            fields[affinity.HEADER] = self.affinity
        raw = [(name.encode(), value.encode()) for name, value in fields.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def write(self, body: bytes, more: bool = True) -> None:
        with self._write:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def whole(self, body: bytes, content_type: str = "application/json") -> None:
        """A reply that is not streamed."""
        await self.start({"content-type": content_type, "content-length": str(len(body))})
        await self.write(body, more=False)

    async def fail(self, error: RequestError) -> None:
        """Send the error as the status of the reply, or as the last event if the reply has begun."""
        if self.started:
            await self.write(event(self._error_body(error)), more=False)
            return
        headers = {REQUEST_ID_HEADER: self._request_id} if self._request_id else {}
        code = self._error_code(error) if self._error_code is not None else None
        body = self._error_body(error)
        await send_error(self.request, self._send, error, body, headers, not self.body_read, code)

    def close(self) -> None:
        """However the reply has ended."""
        self._watch.end(self._write)


@dataclass(frozen=True)
class Call:
    """The translation of one kind of POST request.

    protocol: its name in the journal. begin: looks at the path and headers before the body is read; the model that
    is asked; may raise RequestError. parse: body → request and the client's own id, in a thread; may raise
    RequestError. write: the answer → the reply. error_code: where it is not the usual one. count: what looks at the
    body while it comes.
    """

    protocol: str
    begin: Callable[[Request], str]
    parse: Callable[[Request, bytearray], tuple[WireRequest, str]]
    write: Callable[[Exchange, Answer], Awaitable[None]]
    error_body: ErrorBody
    error_code: ErrorCode | None = None
    count: Callable[[], BlockCount] = StructureCount


def endpoint(relay: Relay, watch: StallWatch, call: Call) -> ASGIApp:
    """An ASGI application, so that Starlette does not wrap the reply."""
    return _Endpoint(relay, watch, call)


class _Endpoint:
    def __init__(self, relay: Relay, watch: StallWatch, call: Call):
        self._relay = relay
        self._watch = watch
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = self._call
        exchange = Exchange(Request(scope, receive), send, self._watch, call.error_body, call.error_code)
        try:
            await self._reply(exchange)
        finally:
            exchange.close()

    async def _reply(self, exchange: Exchange) -> None:
        """One question, from its body to the end of its answer."""
        request, call = exchange.request, self._call
        model, size, client_id = request.path_params.get("model", ""), 0, ""
        try:
            if request.method != "POST":
                raise RequestError("NOT_FOUND", f"{request.method} is not served here; use POST")
            model = call.begin(request)
            self._relay.admission.check()
            body, upload = await read_body(request, self._relay.uploads, call.count)
            size, exchange.body_read = len(body), True
            bodies = [body]
            del body
            try:
                message, client_id = await asyncio.to_thread(_parsed, call, request, bodies)
            except BaseException:
                upload.release()
                raise
            question = Question(call.protocol, message, client_id, size, upload=upload)
            del message
        except RequestError as error:
            self._relay.refuse(call.protocol, model, client_id, size, error)
            await exchange.fail(error)
            return
        except ClientLeft:
            gone = RequestError("CANCELLED", "the client left before its request was complete")
            self._relay.refuse(call.protocol, model, client_id, size, gone)
            return
        except Exception as error:
            fault = internal_error(error)
            self._relay.refuse(call.protocol, model, client_id, size, fault)
            await exchange.fail(fault)
            return
        try:
            exchange.affinity = await self._relay.prepare(question, request.headers)
            async with self._relay.ask(question) as answer, exchange.watched(answer):
                await call.write(exchange, answer)
        except RequestError as error:
            await exchange.fail(error)
        except Exception as error:
            await exchange.fail(internal_error(error))


def _parsed(call: Call, request: Request, bodies: list[bytearray]) -> tuple[WireRequest, str]:
    """Called in a thread, which lets the body go, too: giving back tens of megabytes takes milliseconds."""
    return call.parse(request, bodies.pop())
