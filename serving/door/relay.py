"""The one way to Triton. Every protocol is a translator in front of it:

    parse → Question → Relay.ask → Answer → write

The relay admits (`Admission`) who asks (`current_caller`), gives the request an id of its own, keeps its deadline,
stops it when nobody wants it any more, turns errors into sentences, and books it (`RequestRecord`). A translator knows
its protocol and nothing else:

    async with relay.ask(question) as answer:       # RequestError: refused
        async for response in answer:               # RequestError: failed, cancelled, out of time
            await write(response)

Leaving the block before the end cancels the answer. `cancel`, `stop` and `fail` may be called at any time from
another task of the same loop, and a session may have any number of answers at once.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from af3 import contract
from af3.errors import RequestError
from serving.door import affinity
from serving.door.admission import Admission
from serving.door.caller import OverLimit, current_caller
from serving.door.clip_store import (
    KEEP_HEADER,
    ClipStore,
    clips_to_keep,
    names_a_clip,
    put_in_place,
)
from serving.door.memory_guard import PARSING
from serving.door.metrics import DoorMetrics
from serving.door.relayed_answer import Answer, Services
from serving.door.request_check import allowed_s, check
from serving.door.request_cost import most_tokens, takes_long
from serving.door.request_record import RequestRecord
from serving.door.session_answers import SessionAnswers
from serving.door.unread import UnreadBudget
from serving.door.upload_budget import Upload, UploadBudget
from serving.door.upstream import Upstream
from serving.door.wire_request import NOTHING, WireRequest

END_ALL_S = 4.0  # for clients to read that the server is shutting down


@dataclass
class Question:
    """One request of a client, translated.

    protocol: its name in the journal.
    request: the relay takes it over.
    client_id: what the client calls its request; any string. It goes back to the client and into the journal.
    request_bytes: size on the wire.
    transport_s: seconds until the call's own deadline, in protocols that have one.
    upload: memory that the request holds, released once Triton has it.
    """

    protocol: str
    request: WireRequest
    client_id: str
    request_bytes: int
    transport_s: float | None = None
    upload: Upload | None = None


class Relay:
    """For one event loop."""

    def __init__(self, upstream: Upstream, admission: Admission, metrics: DoorMetrics):
        self.admission = admission
        self.metrics = metrics
        self.uploads = UploadBudget(admission.limits)
        self.upstream = upstream
        self.sessions = SessionAnswers()
        self.unread = UnreadBudget()
        self.clips = ClipStore(admission.limits.clip_store_bytes)
        metrics.watch_clips(lambda: self.clips.bytes)
        self._answers: set[Answer] = set()
        self._at_triton: dict[str, Answer] = {}

    async def prepare(self, question: Question, headers: Mapping[str, str]) -> str:
        """Before `ask`, where a request may name its clips: puts them in place, and keeps those that shall be kept.

        Returns the request's key (`affinity`). Raises RequestError, which is booked.
        """
        try:
            audio = question.request.content(contract.AUDIO)
            key = affinity.given([headers.get(affinity.HEADER, "")])
            key = key or await affinity.of_request(question.request)
            if names_a_clip(audio):
                await self._put_in_place(question, audio)
            if self.clips.most_bytes and headers.get(KEEP_HEADER) == "true":
                self.clips.keep(_owner(), await asyncio.to_thread(clips_to_keep, audio))
        except RequestError as error:
            self.refuse(
                question.protocol,
                question.request.head.model_name,
                question.client_id,
                question.request_bytes,
                error,
            )
            _release(question)
            raise
        except BaseException:  # the client left meanwhile
            _release(question)
            raise
        return key

    async def _put_in_place(self, question: Question, audio: memoryview) -> None:
        try:
            whole = put_in_place(audio, self.clips, _owner(), self.admission.limits.message_bytes)
        except RequestError:
            self.metrics.named_clips.add("no")
            raise
        self.metrics.named_clips.add("yes")
        if question.upload is not None:
            question.upload.grow(sum(map(len, whole)) - len(audio))
        question.request = await asyncio.to_thread(question.request.with_content, contract.AUDIO, whole)

    def ask(self, question: Question) -> Answer:
        """Send a request to Triton. Raises RequestError when it is refused, which is booked too."""
        head, request_id = question.request.head, question.request.request_id
        record = RequestRecord(
            current_caller(),
            question.protocol,
            head.model_name,
            request_id,
            question.client_id,
            question.request_bytes,
        )
        try:
            check(head, question.request.contents, question.client_id)
            seconds = allowed_s(self.admission.limits, question.transport_s, head)
            slot = self.admission.enter(long=takes_long(question.request), tokens=most_tokens(head))
        except RequestError as error:
            self._refuse(record, error, question.upload)
            raise
        # Its clips are not kept while it is answered.
        parts, question.request = question.request.parts, NOTHING
        services = Services(self.upstream, self.admission, self.metrics, self.unread)
        answer = Answer(services, head.model_name, parts, record, slot, question.upload, seconds)
        self._answers.add(answer)
        answer.on_closed(self._answers.discard)
        self._at_triton[request_id] = answer
        answer.on_triton_ended(lambda: self._at_triton.pop(request_id))
        return answer

    def refuse(
        self, protocol: str, model: str, client_id: str, request_bytes: int, error: RequestError
    ) -> None:
        """Book a request that a translator could not even turn into a question."""
        record = RequestRecord(current_caller(), protocol, model, uuid.uuid4().hex, client_id, request_bytes)
        self._refuse(record, error, None)

    def heard(self, request_id: str, seconds: float) -> None:
        """The clips of a request have been decoded, and are so long."""
        answer = self._at_triton.get(request_id)
        if answer is not None:
            answer.heard(seconds)

    def known_bytes(self) -> int:
        """Bytes of the requests, answers and clips that the door holds."""
        return PARSING * self.uploads.bytes + self.unread.bytes + self.clips.bytes

    @property
    def open_answers(self) -> int:
        """The number of answers that are not booked yet; any thread may ask."""
        return len(self._answers)

    async def end_all(self) -> None:
        """End every answer with an error, and give its client time to read it."""
        for answer in list(self._answers):
            answer.fail(RequestError("UNAVAILABLE", "the server shut down before the answer was complete"))
        end = time.monotonic() + END_ALL_S
        while (self._answers or self.admission.in_flight) and time.monotonic() < end:
            await asyncio.sleep(0.05)

    def _refuse(self, record: RequestRecord, error: RequestError, upload: Upload | None) -> None:
        self.metrics.refused.add(error.status)
        if isinstance(error, OverLimit):
            self.metrics.callers_refused.add(error.limit)
        record.book(error.status, self.metrics)
        if upload is not None:
            upload.release()


def _owner() -> str:
    """The owner of the clips to find: the caller's API key, or "" for everybody if the server has no keys."""
    return current_caller().name


def _release(question: Question) -> None:
    if question.upload is not None:
        question.upload.release()
