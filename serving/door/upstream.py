"""The Triton server behind the door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2

from af3 import contract
from serving.address import KEY_HEADER

SERVICE = "/inference.GRPCInferenceService/"
OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # After a restart of Triton the next request must find it; gRPC's own back-off goes up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
RESPONSES_AHEAD = 4  # read from Triton before a slow client has taken them
STOP_EVERY_S = 0.25
STOP_TRIES = 240  # a minute: on a busy machine a step may take long to come to the stop


def key_metadata(key: str) -> tuple[tuple[str, str], ...]:
    """The header that Triton's restricted protocols ask for."""
    return ((f"triton-grpc-protocol-{KEY_HEADER}", key),) if key else ()


class Upstream:
    """One connection to Triton, kept open: streams end, connections do not."""

    def __init__(self, url: str, key: str):
        self._channel = grpc.aio.insecure_channel(url, options=OPTIONS)
        self._metadata = key_metadata(key)
        self._stream = self._channel.stream_stream(f"{SERVICE}ModelStreamInfer")

    def answer(self, request: bytes) -> UpstreamAnswer:
        """Send one ModelInferRequest."""
        return UpstreamAnswer(self._stream(_once(request), metadata=self._metadata))

    async def unary(self, method: str, request: bytes, timeout_s: float = 10.0) -> bytes:
        """Call a method that has one answer. Raises grpc.aio.AioRpcError."""
        call = self._channel.unary_unary(f"{SERVICE}{method}")
        return await call(request, metadata=self._metadata, timeout=timeout_s)

    async def stop(self, request_id: str) -> None:
        """End the text and the speech of a request, wherever it is. Unknown ids are fine."""
        for step in (contract.LLM, contract.TTS):
            await self.stop_step(step, request_id)

    async def stop_step(self, step: contract.Step, request_id: str) -> None:
        answer = self.answer(stop_request(step, request_id).SerializeToString())
        try:
            async for _ in answer:
                pass
        except grpc.aio.AioRpcError:  # Triton is away, and the answer with it
            pass

    async def let_go(self, answer: UpstreamAnswer, request_id: str) -> None:
        """End an answer that nobody reads any more, and wait for it.

        Stopped, not cancelled: Triton 2.51 does not pass a cancellation on to a step that is at work, and its
        gRPC front end has trouble with cancelled streams. The stop is repeated, since the LLM may not have
        the request yet.
        """
        answer.abandon()
        for _ in range(STOP_TRIES):
            await self.stop(request_id)
            done, _ = await asyncio.wait({answer.task}, timeout=STOP_EVERY_S)
            if done:
                return
        answer.cancel()

    async def close(self) -> None:
        await self._channel.close()


class UpstreamAnswer:
    """The responses to one request, read by a task of their own: who stops reading does not end the call."""

    def __init__(self, call: grpc.aio.StreamStreamCall):
        self._call = call
        self._queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(RESPONSES_AHEAD)
        self._abandoned = False
        self.task = asyncio.create_task(self._pump())

    def __aiter__(self) -> UpstreamAnswer:
        return self

    async def __anext__(self) -> bytes:
        message = await self._queue.get()
        if message is None:
            raise StopAsyncIteration
        if isinstance(message, BaseException):
            raise message
        return message

    def abandon(self) -> None:
        """Nobody reads on: the rest is thrown away as it comes."""
        self._abandoned = True
        while not self._queue.empty():
            self._queue.get_nowait()

    def end(self, error: Exception) -> None:
        """Whoever reads gets this error instead of the rest."""
        self.abandon()
        self._queue.put_nowait(error)

    def cancel(self) -> None:
        self._call.cancel()

    async def _pump(self) -> None:
        end: BaseException | None = None
        try:
            async for message in self._call:
                await self._put(message)
        except grpc.aio.AioRpcError as error:
            end = error
        except asyncio.CancelledError:
            end = grpc.aio.UsageError("cancelled")
        await self._put(end)

    async def _put(self, message: bytes | BaseException | None) -> None:
        if not self._abandoned:
            await self._queue.put(message)


async def _once(request: bytes) -> AsyncIterator[bytes]:
    yield request


def stop_request(step: contract.Step, request_id: str) -> service_pb2.ModelInferRequest:
    """`stop`, and as little as can be of the step's other inputs."""
    message = service_pb2.ModelInferRequest(model_name=step.name, id=request_id)
    empty = {"STRING": bytes(4), "INT32": bytes(4), "BOOL": b"\x01"}
    wanted = [tensor for tensor in step.inputs if not tensor.optional or tensor is contract.STOP]
    for tensor in wanted:
        shape = [1, 1] if step.batched else [1]
        datatype = "BYTES" if tensor.dtype == "STRING" else tensor.dtype
        message.inputs.add(name=tensor.name, datatype=datatype, shape=shape)
        message.raw_input_contents.append(empty[tensor.dtype])
    return message
