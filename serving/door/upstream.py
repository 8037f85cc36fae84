"""The Triton server behind the door, reached by gRPC alone."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2

from af3 import contract
from clients.stop_message import stop_message
from serving.address import KEY_HEADER
from serving.door.admission import Admission
from serving.door.far_stream import LARGE_BYTES, FarLoop, FarStream

SERVICE = "/inference.GRPCInferenceService/"
OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # After a restart of Triton the next request must find it; gRPC's own back-off goes up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
UNARY_AT_ONCE = 16


def key_metadata(key: str) -> tuple[tuple[str, str], ...]:
    """The header that Triton's restricted protocols ask for."""
    return ((f"triton-grpc-protocol-{KEY_HEADER}", key),) if key else ()


class Upstream:
    """One connection to Triton, and one for large requests, kept open: streams end, connections do not."""

    def __init__(self, url: str, key: str, admission: Admission):
        """admission: is told when Triton gives up a step."""
        self._channel = grpc.aio.insecure_channel(url, options=OPTIONS)
        self._metadata = key_metadata(key)
        self._admission = admission
        # An option of its own: gRPC shares connections of channels that are the same.
        own = (*OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        self._far = FarLoop(lambda: grpc.aio.insecure_channel(url, options=own))
        self._unary = asyncio.Semaphore(UNARY_AT_ONCE)

    def call(self, request_bytes: int) -> grpc.aio.StreamStreamCall | FarStream:
        """A stream for one ModelInferRequest of so many bytes; both ways carry serialised messages."""
        if request_bytes > LARGE_BYTES:
            return FarStream(self._far, self._stream)
        return self._stream(self._channel)

    def _stream(self, channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall:
        # The pieces of a message are joined in the thread that sends it. Joining 1 MB or more, Python lets others run.
        open_stream = channel.stream_stream(f"{SERVICE}ModelStreamInfer", request_serializer=b"".join)
        return open_stream(metadata=self._metadata)

    async def unary(self, method: str, request: bytes, timeout_s: float = 10.0) -> bytes:
        """Call a method that has one answer. Raises grpc.aio.AioRpcError."""
        call = self._channel.unary_unary(f"{SERVICE}{method}")
        async with self._unary:
            return await call(request, metadata=self._metadata, timeout=timeout_s)

    async def stop(self, step: contract.Step, request_id: str) -> None:
        """End a request at a step. An unknown id is no error, nor is a Triton that is away."""
        call = self._stream(self._channel)
        try:
            await call.write((stop_request(step, request_id).SerializeToString(),))
            await call.done_writing()
            async for message in call:
                self._admission.distrusts(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass

    async def close(self) -> None:
        await self._far.close()
        await self._channel.close()


def stop_request(step: contract.Step, request_id: str) -> service_pb2.ModelInferRequest:
    """The message that stops the request of this id at `step`."""
    return stop_message(step.name, step.inputs, request_id, step.batched)
