"""gRPC: no method runs before the caller is known, but those that tell of the server's health."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from af3.errors import RequestError
from serving.door.caller import set_caller
from serving.door.gatekeeper import Gatekeeper, address_of_peer, header_values
from serving.door.grpc_abort import abort
from serving.door.grpc_connections import GrpcTraffic, peer_of
from serving.door.upstream import SERVICE

HEALTH_SERVICE = "/grpc.health.v1.Health/"
OPEN = frozenset(
    {f"{HEALTH_SERVICE}Check", f"{HEALTH_SERVICE}Watch", f"{SERVICE}ServerLive", f"{SERVICE}ServerReady"}
)
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class GrpcGuard(grpc.aio.ServerInterceptor):
    """Stands before every method of every service of a server."""

    def __init__(self, gatekeeper: Gatekeeper, traffic: GrpcTraffic):
        self._gatekeeper = gatekeeper
        self._traffic = traffic

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(no_such_method)
        kind = next(name for name in KINDS if getattr(handler, name) is not None)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        is_open = handler_call_details.method in OPEN
        behaviour = getattr(handler, kind)
        if kind == "unary_unary":
            behaviour = self._noted(behaviour)
        guarded = self._guarded(behaviour, is_open)
        return make(guarded, handler.request_deserializer, handler.response_serializer)

    def _noted(self, behaviour: Any) -> Any:
        """A call whose connection is at work. Streams say themselves when they are."""

        async def noted(request: bytes, context: grpc.aio.ServicerContext) -> Any:
            peer = peer_of(context.peer())
            self._traffic.read(peer, len(request))
            with self._traffic.call(peer):
                return await behaviour(request, context)

        return noted

    def _guarded(self, behaviour: Any, is_open: bool) -> Any:
        async def one(request: Any, context: grpc.aio.ServicerContext) -> Any:
            await self._admit(context, is_open)
            return await behaviour(request, context)

        async def many(request: Any, context: grpc.aio.ServicerContext) -> Any:
            await self._admit(context, is_open)
            async for response in behaviour(request, context):
                yield response

        return many if inspect.isasyncgenfunction(behaviour) else one

    async def _admit(self, context: grpc.aio.ServicerContext, is_open: bool) -> None:
        address = address_of_peer(context.peer())
        if is_open:
            set_caller(self._gatekeeper.of_address(address))
            return
        given = [
            str(value) for value in header_values(list(context.invocation_metadata() or ()), "authorization")
        ]
        try:
            set_caller(self._gatekeeper.identify("grpc", given, address))
        except RequestError as error:
            await abort(context, error)


async def no_such_method(requests: object, context: grpc.aio.ServicerContext) -> None:
    await abort(context, RequestError("UNIMPLEMENTED", "there is no such method"))
