"""In-flight batching: requests join and leave a running batch between two tokens."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from af3.errors import RequestError, invalid
from af3.llm.decoder import Decoder
from af3.llm.sampling import Sampler, SamplingSettings

log = logging.getLogger(__name__)

PREFILL_PAIRS = 1 << 18  # of a token and one before it, in one turn
LEAST_PREFILL = 16
CANCEL_CHECK_S = 0.05  # asking whether a client is still there costs a round trip to the server process


@dataclass(frozen=True)
class Generation:
    """What is to be generated for one request.

    input_ids: int32 [S]; ids from vocab_size on are rows of `table`, float32 [P, H].
    stop_words: token sequences that end the answer; unlike `end_id` they are part of it (TensorRT-LLM).
    timeout_s: from submission on; a generation without a token by then fails with DEADLINE_EXCEEDED. One that
        runs is stopped by whoever reads it, since only that ends its state in the steps that follow.
    """

    request_id: str
    input_ids: np.ndarray
    table: np.ndarray | None
    max_new_tokens: int
    end_id: int | None
    stop_words: tuple[tuple[int, ...], ...]
    sampling: SamplingSettings
    timeout_s: float | None = None


class Listener(Protocol):
    """Who hears of a generation; called from the scheduler's thread. Must not raise."""

    def tokens(self, ids: Sequence[int], final: bool) -> None:
        """New tokens. The last call may bring none."""

    def failed(self, error: Exception) -> None:
        """The generation ended without an answer."""

    def cancelled(self) -> bool:
        """True when nobody listens any more."""


class _Sequence:
    """A generation that holds a row of the KV cache."""

    def __init__(self, generation: Generation, listener: Listener, decoder: Decoder):
        self.generation = generation
        self.listener = listener
        self.pending = decoder.embed(generation.input_ids, generation.table)  # prompt not yet read
        self.length = 0  # tokens in the cache
        self.generated: list[int] = []
        self.stopped = False
        self._sampler = Sampler(generation.sampling, generation.input_ids, decoder.vocab_size)

    @property
    def decoding(self) -> bool:
        return len(self.pending) == 0

    def accept(self, logits: np.ndarray) -> bool:
        """Draw the next token and tell the listener; True when that was the last."""
        token = self._sampler.next_token(logits)
        if token == self.generation.end_id:
            self.listener.tokens((), final=True)
            return True
        self.generated.append(token)
        final = len(self.generated) == self.generation.max_new_tokens or self._at_stop_word()
        self.listener.tokens((token,), final=final)
        return final

    def _at_stop_word(self) -> bool:
        return any(tuple(self.generated[-len(word) :]) == word for word in self.generation.stop_words)


def shared_part(most: int, read: int) -> int:
    """Tokens of a prompt to read in one turn while other sequences decode, `read` having been read before.

    Every one attends to all before it, so late parts of a long prompt take longer than early ones: 256 tokens
    after 14 000 took 87 ms on af3-tiny, and every stream stood still for that time. Here the pairs of one turn
    are bounded instead. Alone, a prompt is read `most` at a time: fewer calls, and nobody waits.
    """
    return min(most, max(LEAST_PREFILL, PREFILL_PAIRS // (read + most)))


class Scheduler:
    """Runs generations on one decoder, up to `decoder.rows` at once; the others wait in a bounded queue.

    Each turn of the loop reads at most `prefill_tokens` of one waiting prompt and then decodes one token of
    every running sequence, so a long prompt delays the others by one chunk and not by its whole length; the
    chunks get smaller towards its end (`shared_part`).
    Running sequences hold rows 0 … n-1; the prompt being read holds row n.
    """

    def __init__(
        self,
        decoder: Decoder,
        max_queue: int,
        prefill_tokens: int,
        report: Callable[[int, int], None] = lambda running, waiting: None,
    ):
        """`report` hears how many sequences hold a row and how many requests wait, whenever that changes."""
        self._decoder = decoder
        self._max_queue = max_queue
        self._prefill_tokens = prefill_tokens
        self._report_counts = report
        self._next_cancel_check = 0.0
        self._sequences: list[_Sequence] = []  # by row; only the last may still be reading its prompt
        self._queue: deque[tuple[Generation, Listener]] = deque()
        self._ids: set[str] = set()
        self._due_s: dict[str, float] = {}  # of those in flight that have a timeout
        self._stop_ids: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def submit(self, generation: Generation, listener: Listener) -> None:
        """Queue a request.

        Raises RequestError when it cannot be served: malformed, an id in use, or the queue is full.
        """
        self._refuse_malformed(generation)
        with self._changed:
            if generation.request_id in self._ids:
                raise RequestError(
                    "ALREADY_EXISTS",
                    f"request id '{generation.request_id}' is in use by a request in flight; choose another",
                )
            if len(self._queue) >= self._max_queue:
                raise RequestError(
                    "UNAVAILABLE",
                    f"the queue is full ({self._max_queue} requests wait); try again in a second",
                )
            self._ids.add(generation.request_id)
            if generation.timeout_s is not None:
                self._due_s[generation.request_id] = time.monotonic() + generation.timeout_s
            self._queue.append((generation, listener))
            self._changed.notify()
        self._report()

    def stop(self, request_id: str) -> None:
        """End a request before its time; its listener gets a last call without tokens. Unknown ids are fine."""
        with self._changed:
            if request_id in self._ids:
                self._stop_ids.add(request_id)
                self._changed.notify()

    def close(self) -> None:
        """Fail what is in flight and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _report(self) -> None:
        self._report_counts(len(self._sequences), len(self._queue))

    def _refuse_malformed(self, generation: Generation) -> None:
        ids, table = generation.input_ids, generation.table
        rows = 0 if table is None else len(table)
        if table is not None and (table.ndim != 2 or table.shape[1] != self._decoder.hidden_size):
            raise invalid(
                f"prompt_embedding_table: shape {list(table.shape)}, must be [P, {self._decoder.hidden_size}]"
            )
        if len(ids) == 0:
            raise invalid("input_ids: empty; at least one token is needed")
        if ids.min() < 0 or ids.max() >= self._decoder.vocab_size + rows:
            raise invalid(
                f"input_ids: values {ids.min()}…{ids.max()} outside 0…{self._decoder.vocab_size + rows - 1}"
                f" (vocabulary {self._decoder.vocab_size}, prompt table rows {rows})"
            )
        limit = self._decoder.max_sequence_tokens
        if generation.max_new_tokens < 1 or len(ids) + generation.max_new_tokens > limit:
            raise invalid(
                f"request_output_len: {generation.max_new_tokens} after a prompt of {len(ids)} tokens; must be at"
                f" least 1, and both together at most {limit}"
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._queue or self._sequences)
                if self._closed:
                    return self._fail_all(RequestError("UNAVAILABLE", "the server is shutting down"))
            self._turn()

    def _turn(self) -> None:
        try:
            self._drop_overdue()
            self._drop_stopped()
            self._admit()
            self._prefill()
            self._decode()
        except Exception as error:  # the decoder itself failed: nothing in its cache can be trusted
            log.exception("decoder failed with %d sequences in flight", len(self._sequences))
            self._fail_running(error)

    def _drop_stopped(self) -> None:
        with self._changed:
            unwanted, self._stop_ids = self._stop_ids, set()
            queue = list(self._queue)
        unwanted |= self._cancelled_ids(queue)
        if not unwanted:
            return
        for generation, listener in queue:
            if generation.request_id in unwanted:
                self._queue.remove((generation, listener))
                self._end(generation)
                listener.tokens((), final=True)
        for row in reversed(range(len(self._sequences))):
            sequence = self._sequences[row]
            if sequence.generation.request_id in unwanted:
                self._release(row)
                sequence.listener.tokens((), final=True)
        self._report()

    def _drop_overdue(self) -> None:
        now = time.monotonic()
        with self._changed:
            overdue = {request_id for request_id, due_s in self._due_s.items() if due_s <= now}
            waiting = [entry for entry in self._queue if entry[0].request_id in overdue]
            for entry in waiting:
                self._queue.remove(entry)
        for generation, listener in waiting:
            self._end(generation)
            listener.failed(_too_late(generation))
        if waiting:
            self._report()
        for row in reversed(range(len(self._sequences))):
            sequence = self._sequences[row]
            if sequence.generation.request_id in overdue and not sequence.generated:
                self._release(row)
                sequence.listener.failed(_too_late(sequence.generation))

    def _cancelled_ids(self, queue: Sequence[tuple[Generation, Listener]]) -> set[str]:
        now = time.monotonic()
        if now < self._next_cancel_check:
            return set()
        self._next_cancel_check = now + CANCEL_CHECK_S
        running = [(sequence.generation, sequence.listener) for sequence in self._sequences]
        return {generation.request_id for generation, listener in (*queue, *running) if listener.cancelled()}

    def _admit(self) -> None:
        """Give the next row to the longest waiting request, once the prompt before it has been read."""
        reading = self._sequences and not self._sequences[-1].decoding
        if reading or len(self._sequences) == self._decoder.rows:
            return
        with self._changed:
            if not self._queue:
                return
            generation, listener = self._queue.popleft()
        try:
            self._sequences.append(_Sequence(generation, listener, self._decoder))
        except Exception as error:  # this request's memory, not the decoder's: the others go on
            self._end(generation)
            listener.failed(error)
        self._report()

    def _prefill(self) -> None:
        if not self._sequences or self._sequences[-1].decoding:
            return
        row = len(self._sequences) - 1
        sequence = self._sequences[row]
        size = self._prefill_tokens if row == 0 else shared_part(self._prefill_tokens, sequence.length)
        part, sequence.pending = np.split(sequence.pending, [size])
        logits = self._decoder.prefill(row, part, sequence.length)
        sequence.length += len(part)
        if sequence.decoding and sequence.accept(logits):
            self._release(row)

    def _decode(self) -> None:
        running = [sequence for sequence in self._sequences if sequence.decoding]
        if not running:
            return
        ids = np.array([sequence.generated[-1] for sequence in running])
        lengths = np.array([sequence.length for sequence in running])
        logits = self._decoder.decode(ids, lengths)
        ended = []
        for row, sequence in enumerate(running):
            sequence.length += 1
            if sequence.accept(logits[row]):
                ended.append(row)
        for row in reversed(ended):
            self._release(row)

    def _release(self, row: int) -> None:
        """Free a row. The last running sequence takes its place, and the prompt being read that one's."""
        self._end(self._sequences[row].generation)
        last = len(self._sequences) - 1
        last_running = last if self._sequences[last].decoding else last - 1
        if row < last_running:
            self._move(last_running, row)
        if row < last and last_running < last:
            self._move(last, last_running)
        self._sequences.pop()
        self._report()

    def _move(self, source: int, target: int) -> None:
        self._decoder.move(source, target, self._sequences[source].length)
        self._sequences[target] = self._sequences[source]

    def _end(self, generation: Generation) -> None:
        with self._changed:
            self._ids.discard(generation.request_id)
            self._due_s.pop(generation.request_id, None)
            self._stop_ids.discard(generation.request_id)

    def _fail_running(self, error: Exception) -> None:
        sequences, self._sequences = self._sequences, []
        for sequence in sequences:
            self._end(sequence.generation)
            sequence.listener.failed(error)
        self._report()

    def _fail_all(self, error: Exception) -> None:
        self._fail_running(error)
        for generation, listener in self._queue:
            self._end(generation)
            listener.failed(error)
        self._queue.clear()


def _too_late(generation: Generation) -> RequestError:
    return RequestError(
        "DEADLINE_EXCEEDED", f"not answered within {generation.timeout_s:g} s; allow more time"
    )
