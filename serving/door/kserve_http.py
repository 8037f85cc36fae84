"""HTTP as KServe has it: `generate` and `generate_stream` of the ensembles, their description, and health."""

from __future__ import annotations

from typing import Any

import grpc.aio
from google.protobuf.json_format import MessageToDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from tritonclient.grpc import service_pb2

from serving.door import generate_request, json_body
from serving.door.collect import collect
from serving.door.http_exchange import STREAM_HEADERS, Call, Exchange, endpoint, event
from serving.door.relay import Relay
from serving.door.relayed_answer import Answer
from serving.door.request_check import refuse_inner_model
from serving.door.stall_watch import StallWatch
from serving.door.triton_errors import step_died
from serving.door.wire_request import WireRequest

INTEGERS = {"dims", "shape"}  # 64-bit numbers, which protobuf writes as strings in JSON


class KserveHttp:
    """Translates KServe's HTTP for the relay."""

    prefix = "/"
    error_body = staticmethod(generate_request.error_json)

    def __init__(self, relay: Relay, watch: StallWatch):
        self._relay = relay
        model = "/v2/models/{model}"
        collected = Call("http", _public, _parse, _collected, self.error_body)
        streamed = Call("http", _public, _parse, _streamed, self.error_body)
        self.routes: list[BaseRoute] = [
            Route("/v2/health/live", self._live, methods=["GET"]),
            Route("/v2/health/ready", self._ready, methods=["GET"]),
            Route("/v2", self._server, methods=["GET"]),
            Route(model, self._model, methods=["GET"]),
            Route(f"{model}/ready", self._model_ready, methods=["GET"]),
            Route(f"{model}/config", self._config, methods=["GET"]),
            Route(f"{model}/generate", endpoint(relay, watch, collected)),
            Route(f"{model}/generate_stream", endpoint(relay, watch, streamed)),
        ]

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


async def _streamed(exchange: Exchange, answer: Answer) -> None:
    async for response in answer:
        if not response.infer_response.outputs:
            continue  # the empty final response
        if not exchange.started:
            await exchange.start(STREAM_HEADERS)
        await exchange.write(event(generate_request.to_json(response.infer_response, exchange.client_id)))
    if not exchange.started:
        await exchange.start(STREAM_HEADERS)
    await exchange.write(b"", more=False)


async def _collected(exchange: Exchange, answer: Answer) -> None:
    response = await collect(answer)
    await exchange.whole(generate_request.to_json(response, exchange.client_id))


def _parse(request: Request, body: bytearray) -> tuple[WireRequest, str]:
    return generate_request.to_request(request.path_params["model"], json_body.parse(body))


def _public(request: Request) -> str:
    """The model of the path. Raises RequestError for one that is not served."""
    name: str = request.path_params["model"]
    refuse_inner_model(name)
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
