"""The answers of an LLM engine, sent as TensorRT-LLM's backend sends its own; fast tokens share a response."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from af3 import contract
from af3.errors import RequestError
from af3.pace import LONGEST_WAIT_S, gap_s
from af3.stall import Clock, StallWatch
from serving import journal
from serving.steps import adapter


class Streams:
    """All answers of the step; together they send about `most_responses_per_s`. Thread-safe."""

    def __init__(self, most_responses_per_s: float, least_gap_s: float = 0.0, clock: Clock | None = None):
        """least_gap_s: between two responses of one answer. clock: measures how long a token waits."""
        self.clock = clock or Clock()
        self.lock = threading.Lock()  # an answer's responses leave in the order of its tokens
        self.begun = 0  # answers that have a token and no end
        self._most_responses_per_s = most_responses_per_s
        self._least_gap_s = least_gap_s
        self._held: dict[str, Stream] = {}
        self._watch = StallWatch(LONGEST_WAIT_S, self._let_go, self.clock, "held-tokens")

    def next_s(self, now: float) -> float:
        """When an answer that sends a response now may send the next."""
        return now + gap_s(self.begun, self._most_responses_per_s, self._least_gap_s)

    def hold(self, stream: Stream) -> None:
        """Send the tokens of a stream if no other comes within LONGEST_WAIT_S."""
        if stream.request_id not in self._held:
            self._held[stream.request_id] = stream
            self._watch.touch(stream.request_id)

    def forget(self, stream: Stream) -> None:
        if self._held.pop(stream.request_id, None) is not None:
            self._watch.forget(stream.request_id)

    def close(self) -> None:
        self._watch.close()

    def _let_go(self, request_id: str) -> None:
        with self.lock:
            stream = self._held.pop(request_id, None)
            if stream is not None:
                stream.release()


class Stream:
    """Listener of one generation (`af3.llm.sequence.Listener`); its calls become responses of the model.

    Every later step pays for a response, not for its tokens. The first token and the end are sent at once; a token that
    comes too early shares the next response, or is sent alone after LONGEST_WAIT_S.
    """

    def __init__(self, sender: Any, request_id: str, streams: Streams, most_tokens: int):
        """most_tokens: with so many the answer has ended by itself."""
        self.request_id = request_id
        self._most_tokens = most_tokens
        self._sender = sender
        self._streams = streams
        self._began_s = streams.clock.now()
        self._first_s: float | None = None
        self._tokens = 0
        self._held: list[int] = []
        self._next_s = 0.0

    def tokens(self, ids: Sequence[int], final: bool) -> None:
        now = self._streams.clock.now()
        with self._streams.lock:
            if self._first_s is None:
                self._first_s = now - self._began_s
                self._streams.begun += 1
            self._tokens += len(ids)
            self._held += ids
            if final:
                self._finish(ends_early=not ids or self._tokens < self._most_tokens)
            elif now >= self._next_s:
                self.release()
            else:
                self._streams.hold(self)

    def release(self) -> None:
        """Send the tokens that wait. Called with the lock of `Streams` held."""
        self._streams.forget(self)
        self._next_s = self._streams.next_s(self._streams.clock.now())
        self._send_held(0)

    def failed(self, error: Exception) -> None:
        with self._streams.lock:
            self._send(adapter.failure(error), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            self._end(error.status if isinstance(error, RequestError) else "INTERNAL")

    def cancelled(self) -> bool:
        return self._sender.is_cancelled()

    def _finish(self, ends_early: bool) -> None:
        """Send the rest. An end before the limit is a response without tokens: the next step knows it by that."""
        if ends_early and self._held:
            self._send_held(0)
        self._send_held(pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        self._end("OK")

    def _send_held(self, flags: int) -> None:
        held, self._held = self._held, []
        tensors = {
            contract.OUTPUT_IDS.name: np.array([[held]], np.int32),
            contract.SEQUENCE_LENGTH.name: np.array([[len(held)]], np.int32),
        }
        self._send(adapter.response(tensors), flags)

    def _end(self, status: str) -> None:
        self._streams.forget(self)
        self._streams.begun -= self._first_s is not None
        journal.write(
            "stage",
            id=self.request_id,
            stage=contract.LLM.name,
            status=status,
            ms=round(1000 * (self._streams.clock.now() - self._began_s), 1),
            first_token_ms=None if self._first_s is None else round(1000 * self._first_s, 1),
            tokens=self._tokens,
        )

    def _send(self, response: Any, flags: int) -> None:
        try:
            self._sender.send(response, flags)
        except Exception:  # the other sequences of the batch must not fail with this one
            adapter.log.exception("a response could not be sent")
