"""One answer on its way from Triton to a client."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import grpc.aio
from tritonclient.grpc import service_pb2

from af3 import contract
from af3.errors import RequestError
from serving.door.admission import Admission, Slot
from serving.door.far_stream import FarStream
from serving.door.metrics import DoorMetrics
from serving.door.request_check import ENSEMBLES
from serving.door.request_record import RequestRecord
from serving.door.triton_errors import from_triton, step_died
from serving.door.unread import Unread, UnreadBudget
from serving.door.upload_budget import Upload
from serving.door.upstream import Upstream

log = logging.getLogger("af3.door")
UNREAD_S = 20.0  # a client that takes nothing for so long, with a full buffer, loses its answer
STOP_EVERY_S = 0.25
STOP_TRIES = 240  # a minute: on a busy machine a step may take long to come to the stop
FAILURES = ("UNAVAILABLE", "INTERNAL")


@dataclass(frozen=True)
class Services:
    """What all answers of a relay share."""

    upstream: Upstream
    admission: Admission
    metrics: DoorMetrics
    unread: UnreadBudget


class Answer:
    """Iterate its responses inside `async with`. Made by `Relay.ask`.

    A task of its own reads from Triton into a bounded buffer (`UnreadBudget`): a client that stops reading, or leaves,
    never breaks off a stream that Triton writes, and keeps no slot once Triton has written all. Triton 2.51 does not
    pass a cancellation on to a step at work, and a stream that is broken off can block its gRPC threads. An unwanted
    answer is therefore stopped at the LLM and the voice, again and again, since they may not have the request yet;
    its slot is held until Triton has ended. One that the client has whole gives it back at once.
    """

    def __init__(
        self,
        services: Services,
        model: str,
        parts: tuple[bytes, ...],
        record: RequestRecord,
        slot: Slot,
        upload: Upload | None,
        seconds: float,
    ):
        self.request_id = record.request_id
        self.client_id = record.client_id
        self._services = services
        self._record = record
        self._slot = slot
        self._upload = upload
        self._seconds = seconds
        self.model = model
        # Those that can be stopped.
        self._steps = [step for step in ENSEMBLES[model].steps if contract.STOP in step.inputs]
        self._buffer: deque[bytes] = deque()
        self._unread = Unread(services.unread)
        self._status = "CANCELLED"  # unless the client takes the last response, or an error
        self._error: RequestError | None = None
        self._complete = False  # the client has taken the last response: whatever comes now is no failure
        self._ended = False  # Triton has sent the last response
        self._unwanted = False  # what Triton still sends is thrown away
        self._failed_at_triton = False  # it ends by itself
        self._booked = False
        self._ready: asyncio.Future[None] | None = None  # set by who waits for a response
        self._stops: dict[str, asyncio.Task[None]] = {}
        self._next_stop_s: dict[str, float] = {}
        self._closed: list[Callable[[Answer], None]] = []
        self._call: grpc.aio.StreamStreamCall | FarStream | None = None  # not before it is the request's turn
        slot.on_evicted(self._evicted)
        loop = asyncio.get_running_loop()
        self._pumping = loop.create_task(self._pump(parts))
        self._pumping.add_done_callback(self._triton_ended)
        self._releasing: asyncio.Task[None] | None = None
        self._deadline = loop.call_later(seconds, self._out_of_time)

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> service_pb2.ModelStreamInferResponse:
        """The next response, under the door's id. Raises RequestError where the answer fails."""
        while not self._buffer:
            if self._error is not None:
                raise self._fail_with(self._error)
            if self._ended or (self._complete and self._unwanted):
                self._status = "OK"
                raise StopAsyncIteration
            self._ready = asyncio.get_running_loop().create_future()
            await self._ready
        message = self._buffer.popleft()
        self._unread.give_back(len(message))
        response = service_pb2.ModelStreamInferResponse.FromString(message)
        if response.error_message:
            error = from_triton(response.error_message)
            self._services.admission.suspicious |= error.status in FAILURES
            self._failed_at_triton = True
            raise self._fail_with(error)
        self._record.take(response.infer_response)
        if _is_final(response.infer_response) or (
            self._record.finished and self.model == contract.AUDIO_FLAMINGO.name
        ):
            self._complete, self._status = True, "OK"  # many clients leave now, before the stream ends
            self._slot.release()  # or ask again at once: nothing works on this one any more
        return response

    def fail(self, error: RequestError) -> None:
        """End the answer: what is buffered still reaches the client, then the error."""
        if self._error is None and not self._ended:
            self._error = None if self._complete else error
            self._unwanted = True
            self._unread.give_back(0)
            self._wake()
            self._release_triton()

    def heard(self, seconds: float) -> None:
        """The request's clips are so long; its caller has used so much of a minute's audio, even if it has left."""
        self._record.audio_s = seconds
        self._services.metrics.key_audio.add(self._slot.caller.name, seconds)
        self._slot.caller.take_audio(seconds, self._services.admission.now())
        self._slot.decoded()

    def cancel(self) -> None:
        """The client has left, or wants no more of it."""
        self._drop_buffer()
        self.fail(RequestError("CANCELLED", "the request was cancelled"))

    async def stop(self, step: contract.Step) -> None:
        """Let the LLM write no more (the answer ends in order), or the voice speak no more.

        Returns when the step has the stop. At most one is sent at a time, and four a second.
        """
        if self._ended:
            return
        task = self._stops.get(step.name)
        if task is None or task.done():
            task = asyncio.ensure_future(self._send_stop(step))
            self._stops[step.name] = task
        await asyncio.shield(task)

    def close(self) -> None:
        """Book the answer, and stop what Triton still does for it. Called by leaving the `async with` block."""
        if self._booked:
            return
        self._booked = True
        self._deadline.cancel()
        self._unwanted = True
        self._drop_buffer()
        self._record.book(self._status, self._services.metrics)
        self._release_triton()
        for callback in self._closed:
            callback(self)
        self._closed.clear()

    def on_closed(self, callback: Callable[[Answer], None]) -> None:
        self._closed.append(callback)

    def on_triton_ended(self, callback: Callable[[], object]) -> None:
        self._pumping.add_done_callback(lambda _: callback())

    def _evicted(self, error: RequestError) -> None:
        """Others have no place, and this request still waits for its turn."""
        self.fail(error)

    def _fail_with(self, error: RequestError) -> RequestError:
        self._status = error.status
        return error

    def _out_of_time(self) -> None:
        self.fail(
            RequestError("DEADLINE_EXCEEDED", f"not answered within {self._seconds:g} s; allow more time")
        )

    def _wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    async def _pump(self, request: tuple[bytes, ...]) -> None:
        """Send the request, then move every response into the buffer."""
        admission = self._services.admission
        await self._slot.turn()
        self._call = call = self._services.upstream.call(sum(map(len, request)))
        try:
            sending = self._send(call, request)
            del request
            await sending
            async for message in call:
                admission.seen_at = admission.now()
                self._slot.decoded()  # an error may say that they cannot be
                if admission.distrusts(message):
                    self.fail(step_died())
                if self._unwanted:
                    continue
                self._buffer.append(message)
                self._unread.take(len(message))
                self._wake()
                await self._wait_for_room()
        except grpc.aio.AioRpcError:
            admission.suspicious = True
            self._triton_broke_off()
        except Exception:
            log.exception("reading from Triton failed")
            raise

    async def _send(self, call: grpc.aio.StreamStreamCall | FarStream, request: tuple[bytes, ...]) -> None:
        try:
            writing = call.write(request)
            del request
            await writing
            await call.done_writing()
        except asyncio.InvalidStateError:
            pass  # Triton is away or has refused; reading tells
        finally:
            if self._upload is not None:
                self._upload.release()

    async def _wait_for_room(self) -> None:
        try:
            while not self._unread.has_room and not self._unwanted:
                await self._unread.changed(UNREAD_S)
        except asyncio.TimeoutError:
            self._drop_buffer()
            self.fail(
                RequestError("CANCELLED", f"nothing of the answer was read for {UNREAD_S:g} s; read it")
            )

    def _drop_buffer(self) -> None:
        self._buffer.clear()
        self._unread.give_back_all()

    def _triton_ended(self, pumping: asyncio.Task[None]) -> None:
        """Nothing more comes, and nothing of the request is left at Triton."""
        self._ended = True
        self._deadline.cancel()
        if self._upload is not None:
            self._upload.release()
        if not pumping.cancelled() and pumping.exception() is not None:
            self._triton_broke_off()
        self._slot.release()
        self._wake()

    def _triton_broke_off(self) -> None:
        if not self._complete:
            self._error = self._error or step_died()

    def _release_triton(self) -> None:
        if self._call is None:
            self._pumping.cancel()  # Triton has never seen it
        elif not self._pumping.done() and self._releasing is None:
            self._releasing = asyncio.ensure_future(self._stop_until_ended())

    async def _stop_until_ended(self) -> None:
        if self._failed_at_triton:
            await asyncio.wait({self._pumping}, timeout=STOP_EVERY_S)
        for _ in range(STOP_TRIES):
            if self._pumping.done():
                return
            for step in self._steps:
                await self._services.upstream.stop(step, self.request_id)
            await asyncio.wait({self._pumping}, timeout=STOP_EVERY_S)
        if self._call is not None:
            self._call.cancel()

    async def _send_stop(self, step: contract.Step) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._next_stop_s.get(step.name, 0.0) - loop.time()))
        await self._services.upstream.stop(step, self.request_id)
        self._next_stop_s[step.name] = loop.time() + STOP_EVERY_S


def _is_final(response: service_pb2.ModelInferResponse) -> bool:
    """True for the response that Triton marks as the last; not every client asks for the mark."""
    mark = response.parameters.get("triton_final_response")
    return mark is not None and mark.bool_param
