"""HTTP: KServe's `generate` and `generate_stream` of the ensembles, their description, and health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from tritonclient.grpc import service_pb2

from af3.errors import RequestError
from serving.door import generate_request, json_body
from serving.door.browser_check import BrowserCheck
from serving.door.collect import collect
from serving.door.http_body import CODES, ClientLeft, read_body, send_error
from serving.door.relay import Question, Relay
from serving.door.relayed_answer import Answer
from serving.door.request_check import PUBLIC_MODELS
from serving.door.stall_watch import StallWatch
from serving.door.triton_errors import internal_error, step_died

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would hold events back
}
REQUEST_ID_HEADER = "x-request-id"  # the door's, as it stands in the journal
INTEGERS = {"dims", "shape"}  # 64-bit numbers, which protobuf writes as strings in JSON

Write = Callable[["_Exchange", Answer], Awaitable[None]]


class HttpService:
    """Translates HTTP for the relay: `app` is the ASGI application."""

    def __init__(self, relay: Relay, watch: StallWatch, browsers: BrowserCheck):
        self._relay = relay
        self._watch = watch
        model = "/v2/models/{model}"
        routes = [
            Route("/v2/health/live", self._live, methods=["GET"]),
            Route("/v2/health/ready", self._ready, methods=["GET"]),
            Route("/v2", self._server, methods=["GET"]),
            Route(model, self._model, methods=["GET"]),
            Route(f"{model}/ready", self._model_ready, methods=["GET"]),
            Route(f"{model}/config", self._config, methods=["GET"]),
            Route(f"{model}/generate", _Endpoint(self, _collected)),
            Route(f"{model}/generate_stream", _Endpoint(self, _streamed)),
        ]
        self.app = Starlette(
            routes=routes,
            middleware=[Middleware(browsers.middleware)],
            exception_handlers={HTTPException: _not_served, RequestError: _refused},  # type: ignore[dict-item]
        )

    async def _live(self, request: Request) -> Response:
        return Response(status_code=200 if self._relay.admission.alive else 503)

    async def _ready(self, request: Request) -> Response:
        return Response(status_code=200 if self._relay.admission.serving else 503)

    async def _server(self, request: Request) -> Response:
        found = await self._ask_triton("ServerMetadata", service_pb2.ServerMetadataRequest())
        return JSONResponse(_plain(service_pb2.ServerMetadataResponse.FromString(found)))

    async def _model(self, request: Request) -> Response:
        found = await self._ask_triton(
            "ModelMetadata", service_pb2.ModelMetadataRequest(name=_public(request))
        )
        return JSONResponse(_plain(service_pb2.ModelMetadataResponse.FromString(found)))

    async def _model_ready(self, request: Request) -> Response:
        found = await self._ask_triton("ModelReady", service_pb2.ModelReadyRequest(name=_public(request)))
        ready = service_pb2.ModelReadyResponse.FromString(found).ready and self._relay.admission.serving
        return Response(status_code=200 if ready else 503)

    async def _config(self, request: Request) -> Response:
        found = await self._ask_triton("ModelConfig", service_pb2.ModelConfigRequest(name=_public(request)))
        return JSONResponse(_plain(service_pb2.ModelConfigResponse.FromString(found))["config"])

    async def _ask_triton(self, method: str, request: Any) -> bytes:
        try:
            return await self._relay.upstream.unary(method, request.SerializeToString())
        except grpc.aio.AioRpcError:
            raise step_died() from None

    async def generate(self, request: Request, send: Send, write: Write) -> None:
        """One question, from its body to the end of its answer."""
        model = request.path_params["model"]
        exchange = _Exchange(request, send, self._watch)
        size, client_id = 0, ""
        try:
            if request.method != "POST":
                raise RequestError("NOT_FOUND", f"{request.method} is not served here; use POST")
            _public(request)
            self._relay.admission.check()
            body, upload = await read_body(request, self._relay.uploads)
            size, exchange.body_read = len(body), True
            try:
                message, client_id = await asyncio.to_thread(_parse, model, body)
            except BaseException:
                upload.release()
                raise
            del body
            question = Question("http", message, client_id, size, upload=upload)
            del message
        except RequestError as error:
            self._relay.refuse("http", model, client_id, size, error)
            await exchange.fail(error)
            return
        except ClientLeft:
            gone = RequestError("CANCELLED", "the client left before its request was complete")
            self._relay.refuse("http", model, client_id, size, gone)
            return
        try:
            async with self._relay.ask(question) as answer, exchange.watched(answer):
                await write(exchange, answer)
        except RequestError as error:
            await exchange.fail(error)
        except Exception as error:
            await exchange.fail(internal_error(error))


class _Endpoint:
    """An ASGI application, so that Starlette does not wrap the reply."""

    def __init__(self, service: HttpService, write: Write):
        self._service = service
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._service.generate(Request(scope, receive), send, self._write)


class _Exchange:
    """The reply to one request."""

    def __init__(self, request: Request, send: Send, watch: StallWatch):
        self.request = request
        self._send = send
        self._connection = request.scope.get("extensions", {}).get("af3.connection")
        self._watch = watch
        self._write = watch.begin(self._stalled)
        self._request_id = ""
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
        raw = [(name.encode(), value.encode()) for name, value in fields.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def write(self, body: bytes, more: bool = True) -> None:
        with self._write:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def fail(self, error: RequestError) -> None:
        """As the status of the reply, or as its last event when it has begun."""
        try:
            if self.started:
                await self.write(_event(generate_request.error_json(error)), more=False)
            else:
                headers = {REQUEST_ID_HEADER: self._request_id} if self._request_id else {}
                await send_error(self.request, self._send, error, headers, not self.body_read)
        finally:
            self._watch.end(self._write)


async def _streamed(exchange: _Exchange, answer: Answer) -> None:
    async for response in answer:
        if not response.infer_response.outputs:
            continue  # the empty final response
        if not exchange.started:
            await exchange.start(STREAM_HEADERS)
        await exchange.write(_event(generate_request.to_json(response.infer_response, exchange.client_id)))
    if not exchange.started:
        await exchange.start(STREAM_HEADERS)
    await exchange.write(b"", more=False)


async def _collected(exchange: _Exchange, answer: Answer) -> None:
    response = await collect(answer)
    body = generate_request.to_json(response, exchange.client_id)
    await exchange.start({"content-type": "application/json", "content-length": str(len(body))})
    await exchange.write(body, more=False)


def _parse(model: str, body: bytearray) -> tuple[service_pb2.ModelInferRequest, str]:
    return generate_request.to_request(model, json_body.parse(body))


def _event(body: bytes) -> bytes:
    return b"data: " + body + b"\n\n"


def _public(request: Request) -> str:
    """The model of the path. Raises RequestError for one that is not served."""
    name: str = request.path_params["model"]
    if name not in PUBLIC_MODELS:
        raise RequestError(
            "NOT_FOUND", f"model '{name[:64]}' is not served to clients; ask {' or '.join(PUBLIC_MODELS)}"
        )
    return name


def _plain(message: Any) -> dict[str, Any]:
    """A protobuf message as KServe writes it in JSON."""

    def numbers(value: Any) -> Any:
        if isinstance(value, list):
            return [numbers(item) for item in value]
        if isinstance(value, dict):
            return {
                key: [int(number) for number in item] if key in INTEGERS else numbers(item)
                for key, item in value.items()
            }
        return value

    found: dict[str, Any] = numbers(MessageToDict(message, preserving_proto_field_name=True))
    return found


async def _not_served(request: Request, error: HTTPException) -> Response:
    path = f"{request.method} {request.url.path[:128]} is not served; see /v2/models/{PUBLIC_MODELS[0]}/generate_stream"
    return JSONResponse({"error": f"NOT_FOUND: {path}"}, 404)


async def _refused(request: Request, error: RequestError) -> Response:
    return Response(generate_request.error_json(error), CODES[error.status], media_type="application/json")
