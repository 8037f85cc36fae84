"""gRPC: the KServe service, cut down to what a client may call, and the standard health service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from af3 import contract
from af3.errors import RequestError
from serving.door import affinity
from serving.door.collect import collect
from serving.door.grpc_abort import abort
from serving.door.grpc_connections import GrpcTraffic
from serving.door.grpc_guard import HEALTH_SERVICE
from serving.door.grpc_stream import GrpcStream, OpenStreams, headers_of, question
from serving.door.relay import Relay
from serving.door.request_check import PUBLIC_MODELS, refuse_other_version
from serving.door.stall_watch import StallWatch
from serving.door.upstream import SERVICE
from serving.door.wire_check import unreadable

SERVING, NOT_SERVING, UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"  # HealthCheckResponse{status: …}
HEALTH_POLL_S = 1.0
KNOWN_SERVICES = {"", SERVICE.strip("/"), *PUBLIC_MODELS}
NAMED = {
    "ModelReady": service_pb2.ModelReadyRequest,
    "ModelMetadata": service_pb2.ModelMetadataRequest,
    "ModelConfig": service_pb2.ModelConfigRequest,
    "ModelStatistics": service_pb2.ModelStatisticsRequest,
}
# perf_analyzer reads configuration and statistics of every step (no name: of all); they tell nothing of any request.
DESCRIBED = {"", *PUBLIC_MODELS, *(step.name for step in contract.AUDIO_FLAMINGO_SPEECH.steps)}

Handler = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


class GrpcService(grpc.GenericRpcHandler):
    """Translates gRPC for the relay. No header of a client reaches Triton."""

    def __init__(self, relay: Relay, watch: StallWatch, traffic: GrpcTraffic):
        self._relay = relay
        self._watch = watch
        self._traffic = traffic
        self._streams = OpenStreams()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler of a method; None, which is UNIMPLEMENTED, for all that is closed."""
        name = handler_call_details.method
        if name == f"{HEALTH_SERVICE}Watch":
            return grpc.unary_stream_rpc_method_handler(self._watch_health)
        if name == f"{SERVICE}ModelStreamInfer":
            return grpc.stream_stream_rpc_method_handler(self._stream)
        unary: dict[str, Handler] = {
            f"{HEALTH_SERVICE}Check": self._check_health,
            f"{SERVICE}ServerLive": self._live,
            f"{SERVICE}ServerReady": self._ready,
            f"{SERVICE}ServerMetadata": self._metadata,
            f"{SERVICE}ModelInfer": self._infer,
            **{f"{SERVICE}{method}": self._of_model(method) for method in NAMED},
        }
        return grpc.unary_unary_rpc_method_handler(unary[name]) if name in unary else None

    async def _live(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return service_pb2.ServerLiveResponse(live=self._relay.admission.alive).SerializeToString()

    async def _ready(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return service_pb2.ServerReadyResponse(ready=self._relay.admission.serving).SerializeToString()

    async def _metadata(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await self._pass_on("ServerMetadata", b"", context)  # which has no fields

    async def _check_health(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        name = await _health_of(request, context)
        if name not in KNOWN_SERVICES:
            await abort(context, RequestError("NOT_FOUND", f"there is no service '{name[:64]}'"))
        return self._health

    async def _watch_health(self, request: bytes, context: grpc.aio.ServicerContext) -> None:
        """The state now, and whenever it changes. Of a service that is unknown that is a state, and no error."""
        known = await _health_of(request, context) in KNOWN_SERVICES
        sent: bytes | None = None
        while True:
            now = self._health if known else UNKNOWN
            if now != sent:
                await context.write(now)
                sent = now
            await asyncio.sleep(HEALTH_POLL_S)

    @property
    def _health(self) -> bytes:
        return SERVING if self._relay.admission.serving else NOT_SERVING

    def _of_model(self, method: str) -> Handler:
        async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            try:
                asked = NAMED[method].FromString(request)
            except DecodeError:
                await abort(context, unreadable())
            if asked.name not in DESCRIBED or (not asked.name and method != "ModelStatistics"):
                await abort(context, RequestError("NOT_FOUND", f"there is no model '{asked.name[:64]}'"))
            try:
                refuse_other_version(asked.version)
            except RequestError as error:
                await abort(context, error)
            return await self._pass_on(method, request, context)

        return handle

    async def _pass_on(self, method: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return await self._relay.upstream.unary(method, request)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), "the server does not answer; try again in a few seconds")
            raise AssertionError("abort raises") from None

    async def _infer(self, raw: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """The whole answer as one response, for clients that do not stream."""
        try:
            asked = question(raw, context, self._relay)
            del raw
            key = await self._relay.prepare(asked, headers_of(context))
            async with self._relay.ask(asked) as answer:
                response = await collect(answer)
        except RequestError as error:
            await abort(context, error)
        response.id = asked.client_id
        if key:
            await context.send_initial_metadata(((affinity.HEADER, key),))
        return response.SerializeToString()

    async def _stream(self, requests: object, context: grpc.aio.ServicerContext) -> None:
        stream = GrpcStream(context, self._relay, self._watch, self._traffic)
        with self._streams.opened(stream):
            error = await stream.serve()
        if error is not None:
            await abort(context, error)


async def _health_of(request: bytes, context: grpc.aio.ServicerContext) -> str:
    """The service that a HealthCheckRequest names."""
    try:
        # It is this message on the wire: one string, field 1.
        return str(service_pb2.ModelReadyRequest.FromString(request).name)
    except DecodeError:
        await abort(context, unreadable())
