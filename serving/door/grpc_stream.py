"""One ModelStreamInfer call: any number of requests, answered side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from af3 import contract
from af3.errors import RequestError
from serving.door import affinity, wire_request
from serving.door.caller import current_caller
from serving.door.grpc_abort import GONE
from serving.door.grpc_connections import GrpcTraffic, peer_of
from serving.door.relay import Question, Relay
from serving.door.stall_watch import StallWatch
from serving.door.triton_errors import internal_error
from serving.door.wire_check import refuse_many_parts, unreadable

REAL_STATUS_HEADER = "triton_grpc_error"
MAX_STREAMS = 1024
VAIN_STOP_S = 0.002  # a stream that stops what it does not have is not read for so long
STEPS_TO_STOP = {step.name: step for step in (contract.LLM, contract.TTS)}


class GrpcStream:
    """Reads requests, writes their responses in the order they come."""

    def __init__(
        self, context: grpc.aio.ServicerContext, relay: Relay, watch: StallWatch, traffic: GrpcTraffic
    ):
        self._context = context
        self._relay = relay
        self._watch = watch
        self._traffic = traffic
        self._peer = peer_of(context.peer())
        # Reading pauses when so many are unfinished, so that a client that does not read cannot pile up answers.
        # More than are admitted: who asks for too many at once is told so.
        self._room = asyncio.Semaphore(2 * relay.admission.limits.in_flight)
        self._running: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()
        self._failure: RequestError | None = None
        self._failed = asyncio.Event()
        self._session = (
            context.peer(),
            current_caller(),
        )  # a proxy may bring several clients on one connection
        headers = context.invocation_metadata() or ()
        self._real_status = any(item == (REAL_STATUS_HEADER, "true") for item in map(tuple, headers))
        self._affinity = ""
        self._begun = False
        self._stuck = False
        self.evicted = False

    @property
    def idle(self) -> bool:
        return not self._running

    def evict(self) -> None:
        """Close an idle stream, to make room."""
        self.evicted = True
        self._failed.set()

    async def serve(self) -> RequestError | None:
        """Until the client has closed its side and has all answers; the error to end the call with, if any."""
        self._write = self._watch.begin(self._stalled)
        reading = asyncio.create_task(self._read())
        failing = asyncio.create_task(self._failed.wait())
        try:
            while not self._failed.is_set() and (not reading.done() or self._running):
                pending = {failing, *self._running} if reading.done() else {failing, reading}
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            if not self._stuck:
                await self._writing.acquire()  # the last write is complete
        finally:
            self._watch.end(self._write)
            for task in (reading, failing, *self._running):
                task.cancel()
        if self.evicted:
            return RequestError("RESOURCE_EXHAUSTED", "idle stream closed to make room; open another")
        return self._failure

    async def _read(self) -> None:
        while True:
            await self._room.acquire()
            raw = await self._context.read()
            if raw is grpc.aio.EOF:
                return
            self._traffic.read(self._peer, len(raw))
            accepted = asyncio.Event()
            task = asyncio.create_task(self._answer(raw, accepted))
            del raw
            self._running.add(task)
            task.add_done_callback(partial(self._answered, accepted))
            # Answers run side by side. A stop is done before the next is read: a stream of thousands of them must not
            # have a hundred turns in the loop where every other has one.
            await accepted.wait()

    def _answered(self, accepted: asyncio.Event, task: asyncio.Task[None]) -> None:
        accepted.set()
        self._running.discard(task)
        self._room.release()

    async def _answer(self, raw: bytes, accepted: asyncio.Event) -> None:
        """One request, to its last response or its error. accepted: set as soon as it is no stop."""
        asked: Question | None = None
        client_id = ""
        try:
            asked = question(raw, self._context, self._relay)
            raw = b""
            client_id = asked.client_id
            with self._traffic.call(self._peer):
                if _is_stop(asked.request.head):
                    await self._stop(asked)
                else:
                    accepted.set()
                    await self._relay_answer(asked)
            return
        except RequestError as error:
            # Without its traceback, in whose frames the request is.
            failure = RequestError(error.status, error.message, error.retry_s)
        except GONE:
            return
        except Exception as error:
            failure = internal_error(error)
        # A client that does not read may keep the error waiting, but not 128 MB with it, nor the requests behind it.
        accepted.set()
        raw, asked = b"", None
        await self._fail(failure, client_id)

    async def _relay_answer(self, asked: Question) -> None:
        self._affinity = await self._relay.prepare(asked, headers_of(self._context)) or self._affinity
        async with self._relay.ask(asked) as answer:
            self._relay.sessions.add(self._session, asked.client_id, answer)
            async for response in answer:
                response.infer_response.id = asked.client_id
                await self._send(response.SerializeToString())

    async def _stop(self, asked: Question) -> None:
        """`stop`, to the LLM or the voice, for a request that this connection began."""
        if asked.upload is not None:
            asked.upload.release()
        answers = self._relay.sessions.find(self._session, asked.client_id)
        self._relay.metrics.stops.add("yes" if answers else "no")
        if not answers:
            await asyncio.sleep(VAIN_STOP_S)
        step = STEPS_TO_STOP[asked.request.head.model_name]
        await asyncio.gather(*(answer.stop(step) for answer in answers))
        response = service_pb2.ModelStreamInferResponse()
        response.infer_response.id = asked.client_id
        response.infer_response.parameters["triton_final_response"].bool_param = True
        await self._send(response.SerializeToString())

    async def _send(self, message: bytes) -> None:
        async with self._writing:
            with self._write:
                await self._begin()
                await self._context.write(message)

    async def _begin(self) -> None:
        """Not before the first response: what has not begun a proxy may ask elsewhere."""
        if not self._begun and self._affinity:
            await self._context.send_initial_metadata(((affinity.HEADER, self._affinity),))
        self._begun = True

    def _stalled(self) -> None:
        """The status goes out behind the write that is stuck, should the client ever read again."""
        self._stuck = True
        self._failure = RequestError(
            "CANCELLED", "the client did not read its answers; read them as they come"
        )
        self._failed.set()

    async def _fail(self, error: RequestError, client_id: str) -> None:
        """Send an error: as a response, or as the status of the whole stream if the client wants that."""
        if self._real_status:
            self._failure = error
            self._failed.set()
            return
        response = service_pb2.ModelStreamInferResponse(error_message=f"{error.status}: {error.message}")
        response.infer_response.id = client_id
        with suppress(*GONE):
            await self._send(response.SerializeToString())


class OpenStreams:
    """All streams of the door. At the limit the one that has been open longest without a request makes room."""

    def __init__(self, most: int = MAX_STREAMS):
        self._most = most
        self._streams: dict[GrpcStream, None] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[GrpcStream]:
        return iter(list(self._streams))

    @contextmanager
    def opened(self, stream: GrpcStream) -> Iterator[None]:
        if len(self._streams) >= self._most:
            idle = next((one for one in self._streams if one.idle and not one.evicted), None)
            if idle is not None:
                idle.evict()
        self._streams[stream] = None
        try:
            yield
        finally:
            del self._streams[stream]


def headers_of(context: grpc.aio.ServicerContext) -> dict[str, str]:
    """The metadata of a call that are text."""
    pairs = context.invocation_metadata() or ()
    return {name: value for name, value in pairs if isinstance(value, str)}


def question(raw: bytes, context: grpc.aio.ServicerContext, relay: Relay) -> Question:
    """One serialised ModelInferRequest. Raises RequestError, booked, for what cannot be read or held in memory."""
    upload = None
    try:
        refuse_many_parts(raw)
        upload = relay.uploads.open()
        upload.grow(len(raw))
        request, client_id = wire_request.read(raw)
    except (RequestError, DecodeError) as error:
        if upload is not None:
            upload.release()
        refusal = error if isinstance(error, RequestError) else unreadable()
        relay.refuse("grpc", "", "", len(raw), refusal)
        try:
            raise refusal from None
        finally:
            del (
                refusal
            )  # its traceback holds this frame, and with it the request, until the garbage collector comes
    return Question("grpc", request, client_id, len(raw), context.time_remaining(), upload)


def _is_stop(request: service_pb2.ModelInferRequest) -> bool:
    """The one thing a client may send to an inner model."""
    return request.model_name in STEPS_TO_STOP and any(
        tensor.name == contract.STOP.name for tensor in request.inputs
    )
