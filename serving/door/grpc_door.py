"""gRPC: the KServe service, cut down to what a client may call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from af3 import contract
from af3.errors import RequestError, invalid
from serving.door.admission import PUBLIC_MODELS, Admission, allowed_s, refuse_inner_model
from serving.door.metrics import DoorMetrics
from serving.door.record import Record
from serving.door.sentence import failed, told
from serving.door.upstream import SERVICE, Upstream, UpstreamAnswer

REAL_STATUS_HEADER = "triton_grpc_error"
LAST_WORD_S = 2.0  # for an error to reach a client that does not read
NAMED = {
    "ModelReady": service_pb2.ModelReadyRequest,
    "ModelMetadata": service_pb2.ModelMetadataRequest,
    "ModelConfig": service_pb2.ModelConfigRequest,
    "ModelStatistics": service_pb2.ModelStatisticsRequest,
}
# perf_analyzer reads configuration and statistics of every step (no name: of all); they tell nothing of any request.
DESCRIBED = {"", *PUBLIC_MODELS, *(step.name for step in contract.AUDIO_FLAMINGO_SPEECH.steps)}


class GrpcDoor(grpc.GenericRpcHandler):
    """Messages pass as bytes; they are read, never written anew. No header of a client reaches Triton."""

    def __init__(self, upstream: Upstream, admission: Admission, metrics: DoorMetrics):
        self._upstream = upstream
        self._admission = admission
        self._metrics = metrics
        self._leaving: set[asyncio.Task[None]] = set()
        self._answers: set[UpstreamAnswer] = set()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler of a method; None, which is UNIMPLEMENTED, for all that is closed."""
        service, _, method = handler_call_details.method.rpartition("/")
        if f"{service}/" != SERVICE:
            return None
        if method == "ModelStreamInfer":
            return grpc.stream_stream_rpc_method_handler(self._stream)
        unary = {"ServerLive": self._live, "ServerReady": self._ready, "ServerMetadata": self._metadata}
        if method in unary:
            return grpc.unary_unary_rpc_method_handler(unary[method])
        if method in NAMED:
            return grpc.unary_unary_rpc_method_handler(self._of_model(method))
        return None

    async def end_all(self) -> None:
        """Tell every client that is still answered that the server goes."""
        for answer in self._answers:
            answer.end(RequestError("UNAVAILABLE", "the server shut down before the answer was complete"))
        end = time.monotonic() + 2 * LAST_WORD_S
        while (self._answers or self._leaving) and time.monotonic() < end:
            await asyncio.sleep(0.05)

    async def _live(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return service_pb2.ServerLiveResponse(live=True).SerializeToString()

    async def _ready(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        ready = self._admission.ready and not self._admission.draining
        return service_pb2.ServerReadyResponse(ready=ready).SerializeToString()

    async def _metadata(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await self._pass_on("ServerMetadata", request, context)

    def _of_model(self, method: str) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]:
        async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            try:
                name = NAMED[method].FromString(request).name
            except DecodeError:
                await _abort(context, _unreadable())
            if name not in DESCRIBED:
                await _abort(context, RequestError("NOT_FOUND", f"there is no model '{name[:64]}'"))
            return await self._pass_on(method, request, context)

        return handle

    async def _pass_on(self, method: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return await self._upstream.unary(method, request)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), "the server does not answer; try again in a few seconds")
            raise AssertionError("abort raises") from None

    async def _stream(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        """Any number of requests on one stream, answered side by side."""
        client = _Client(context)
        running: set[asyncio.Task[None]] = set()

        async def read() -> None:
            async for request in requests:
                running.add(task := asyncio.create_task(self._answer(request, client)))
                task.add_done_callback(running.discard)

        reading = asyncio.create_task(read())
        failing = asyncio.create_task(client.failed.wait())
        try:
            while not failing.done() and (running or not reading.done()):
                pending = {failing, *running} if reading.done() else {failing, reading, *running}
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, failing, *running):
                task.cancel()
        await client.flush()
        if client.failure is not None:
            await _abort(context, client.failure)

    async def _answer(self, raw: bytes, client: _Client) -> None:
        record = Record("grpc", request_bytes=len(raw))
        try:
            request = service_pb2.ModelInferRequest.FromString(raw)
            record = Record("grpc", request.model_name, request.id, len(raw))
            if _stops_speech(request):
                await self._upstream.stop_step(contract.TTS, request.id)
                await client.write(_final(request.id))
                return
            seconds = self._admit(request, client)
        except (RequestError, DecodeError) as error:
            refusal = error if isinstance(error, RequestError) else _unreadable()
            record.status = refusal.status
            self._metrics.refused.add(refusal.status)
            record.book(self._metrics)
            await client.fail(refusal, record.request_id)
            return
        await self._relay(raw, record, seconds, client)

    def _admit(self, request: service_pb2.ModelInferRequest, client: _Client) -> float:
        """Seconds the request may take. Raises RequestError; else it is in flight."""
        refuse_inner_model(request.model_name)
        timeout_us = request.parameters["timeout"].int64_param if "timeout" in request.parameters else None
        seconds = allowed_s(self._admission.limits, client.time_remaining(), timeout_us)
        self._admission.enter(request.id)
        return seconds

    async def _relay(self, raw: bytes, record: Record, seconds: float, client: _Client) -> None:
        answer = self._upstream.answer(raw)
        record.status = "CANCELLED"  # unless it comes to an end of its own
        error: RequestError | None = None
        self._answers.add(answer)
        copying = asyncio.create_task(self._copy(answer, record, client))
        try:
            await asyncio.wait({copying}, timeout=seconds)
            if not copying.done():
                # Not cancelled: that would cut a response in two, and nothing could be written after it.
                answer.end(
                    RequestError("DEADLINE_EXCEEDED", f"not answered within {seconds:g} s; allow more time")
                )
                await asyncio.wait({copying}, timeout=LAST_WORD_S)
            if copying.done():
                copying.result()
        except RequestError as told:
            error = told
        except grpc.aio.AioRpcError:
            error = failed()
            self._admission.suspicious = True
        finally:
            copying.cancel()  # a client that has left, or does not read
            self._answers.discard(answer)
            record.status = record.status if error is None else error.status
            record.book(self._metrics)
            self._leave(answer, record.request_id)
        if error is not None:
            await client.fail(error, record.request_id)

    async def _copy(self, answer: UpstreamAnswer, record: Record, client: _Client) -> None:
        """Every response to the client, as it is."""
        status: str = "OK"
        async for message in answer:
            response = service_pb2.ModelStreamInferResponse.FromString(message)
            if not response.error_message:
                record.take(response)
                self._admission.heard()
                await client.write(message)
                continue
            error = told(response.error_message)
            status = error.status
            self._admission.suspicious |= status in ("UNAVAILABLE", "INTERNAL")
            await client.fail(error, record.request_id)
        record.status = status

    def _leave(self, answer: UpstreamAnswer, request_id: str) -> None:
        """Give the place back once Triton has ended too."""

        async def leave() -> None:
            if not answer.task.done():
                await self._upstream.let_go(answer, request_id)
            self._admission.leave(request_id)

        self._leaving.add(task := asyncio.create_task(leave()))
        task.add_done_callback(self._leaving.discard)


class _Client:
    """The stream to one client, written by one answer at a time."""

    def __init__(self, context: grpc.aio.ServicerContext):
        self._context = context
        self._writing = asyncio.Lock()
        self._pending: asyncio.Future[None] | None = None
        self.failure: RequestError | None = None
        self.failed = asyncio.Event()
        headers = context.invocation_metadata() or ()
        self.real_status = any(item == (REAL_STATUS_HEADER, "true") for item in map(tuple, headers))

    def time_remaining(self) -> float | None:
        return self._context.time_remaining()

    async def write(self, message: bytes) -> None:
        async with self._writing:
            await self.flush()
            self._pending = asyncio.ensure_future(self._context.write(message))
            # Of a client that has left nobody may be waiting for the failure any more.
            self._pending.add_done_callback(lambda write: write.cancelled() or write.exception())
            await self.flush()

    async def flush(self) -> None:
        """Wait for the last write. It is never cancelled: gRPC would refuse all that follows on the stream."""
        if self._pending is not None:
            await asyncio.shield(self._pending)

    async def fail(self, error: RequestError, request_id: str) -> None:
        """Tell an error: as a response, or as the status of the whole stream if the client wants that."""
        if self.real_status:
            self.failure = error
            self.failed.set()
            return
        # A client that does not read cannot be told, and one that has left need not be.
        with suppress(Exception):
            await asyncio.wait_for(self.write(error_response(error, request_id)), LAST_WORD_S)


def error_response(error: RequestError, request_id: str) -> bytes:
    """An error as Triton's streams carry it; the status is in the sentence."""
    response = service_pb2.ModelStreamInferResponse(error_message=f"{error.status}: {error.message}")
    response.infer_response.id = request_id
    return response.SerializeToString()


def _final(request_id: str) -> bytes:
    response = service_pb2.ModelStreamInferResponse()
    response.infer_response.id = request_id
    response.infer_response.parameters["triton_final_response"].bool_param = True
    return response.SerializeToString()


def _stops_speech(request: service_pb2.ModelInferRequest) -> bool:
    """The one thing a client may send to an inner model: `stop` for the speech of its own request."""
    names = {tensor.name for tensor in request.inputs}
    return request.model_name == contract.TTS.name and contract.STOP.name in names


def _unreadable() -> RequestError:
    return invalid("the message is not one of the KServe protocol; use its protobuf definitions")


async def _abort(context: grpc.aio.ServicerContext, error: RequestError) -> None:
    code = getattr(grpc.StatusCode, error.status, grpc.StatusCode.UNKNOWN)
    await context.abort(code, error.message)
