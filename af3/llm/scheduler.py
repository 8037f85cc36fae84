"""In-flight batching: requests join and leave the running batch between two tokens."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

import numpy as np

from af3.fair_turns import FairTurns
from af3.llm.checks import refuse_malformed
from af3.llm.decoder import Decoder
from af3.llm.intake import Intake, shutting_down
from af3.llm.interface import EngineStats
from af3.llm.prefix_cache import PrefixCache
from af3.llm.rows import Rows
from af3.llm.sequence import ActiveSequence, Generation, Listener
from af3.llm.unwanted import Unwanted

log = logging.getLogger(__name__)

PREFILL_PAIRS = 1 << 17  # most (token, earlier token) pairs of one prefill chunk
LEAST_PREFILL = 8


def shared_part(most: int, read: int) -> int:
    """Size of the next prefill chunk, after `read` tokens, while other sequences decode.

    A token attends to all earlier ones, so late chunks of a long prompt take longer: 256 tokens after 14 000 took 87 ms
    on af3-tiny and delayed every stream by that time. So the chunk's attention pairs are bounded: 8 tokens take 13 ms
    there, 16 take 20. Still smaller ones would not pay: 4 take 11 ms. When no other sequence decodes, chunks have
    `most` tokens.
    """
    return min(most, max(LEAST_PREFILL, PREFILL_PAIRS // (read + most)))


class Scheduler:
    """Runs generations on one decoder, up to `decoder.rows` at once; others wait in a bounded queue.

    Each turn of the loop prefills at most `prefill_tokens` of one prompt and then decodes one token of every running
    sequence. So a long prompt delays the others by one chunk, not by its whole length; chunks shrink towards its end
    (`shared_part`). A prompt that is shorter than what is left of those being read is read in turns with them
    (`FairTurns`); another waits, and may find its prefix in the cache then. A prefix that an earlier prompt had too is
    copied from the `PrefixCache`, not computed.

        submit ─► queue ─► prefill (row n) ─► decode (rows 0 … n-1) ─► end    rows: see `Rows`
    """

    def __init__(
        self,
        decoder: Decoder,
        max_queue: int,
        prefill_tokens: int,
        report: Callable[[int, int], None] = lambda running, waiting: None,
        turned: Callable[[bool], None] = lambda busy: None,
        stats: Callable[[EngineStats], None] = lambda stats: None,
        prefix_cache_bytes: int = 0,
    ):
        """report: called with the number of sequences in rows and of queued requests when one has changed.
        turned: called before and after every turn with whether there is work. stats: called with the token totals after
        every prompt and every answer. All on the scheduler's thread. prefix_cache_bytes: most that the prefix cache
        holds.
        """
        self._decoder = decoder
        self._prefill_tokens = prefill_tokens
        self._report_counts = report
        self._turned = turned
        self._reported = 0, 0
        self._intake = Intake(max_queue)
        self._unwanted = Unwanted(self._intake)
        self._rows = Rows(decoder)
        self._fair: FairTurns[ActiveSequence] = FairTurns()
        self._prefixes = PrefixCache(decoder, prefix_cache_bytes)
        self._report_stats = stats
        self._prompt_tokens = self._cached_tokens = self._generated_tokens = 0
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def submit(self, generation: Generation, listener: Listener) -> None:
        """Queue a request.

        Raises RequestError when it cannot be served: malformed, an id in use, the queue full, or closed.
        """
        decoder = self._decoder
        refuse_malformed(generation, decoder.vocab_size, decoder.hidden_size, decoder.max_sequence_tokens)
        self._intake.submit(generation, listener)

    def stop(self, request_id: str) -> None:
        """Stop a request; its listener gets a final call without tokens. Ignores unknown ids."""
        self._intake.stop(request_id)

    def close(self) -> None:
        """Fail all requests in flight and end the thread."""
        self._intake.close()
        self._thread.join()

    def _run(self) -> None:
        while self._intake.wait(busy=len(self._rows) > 0):
            self._turned(True)
            self._turn()
            self._turned(len(self._rows) > 0)
        self._fail_rows(shutting_down())
        for waiting in self._intake.remove_all():
            waiting.listener.failed(shutting_down())
        self._report()

    def _turn(self) -> None:
        try:
            self._unwanted.drop(
                self._rows.all, self._release
            )  # 1) drop stopped, abandoned and overdue requests
            self._admit()  # 2) give the next in the queue a row, unless its prompt must wait for one in prefill
            self._report()
            self._prefill()  # 3) prefill one chunk of a prompt; its last chunk gives the first token
            self._decode()  # 4) decode one token of every running sequence
        except Exception as error:  # the decoder failed: its cache can no longer be trusted
            log.exception("decoder failed with %d sequences in flight", len(self._rows))
            self._fail_rows(error)
        self._report()

    def _admit(self) -> None:
        if self._rows.full:
            return
        waiting = self._intake.next(min((one.unread for one in self._rows.reading), default=math.inf))
        if waiting is None:
            return
        try:
            self._rows.add(ActiveSequence(waiting.generation, waiting.listener, self._decoder))
        except Exception as error:  # this request's own memory, not the decoder's: the others continue
            self._intake.end(waiting.generation)
            waiting.listener.failed(error)

    def _prefill(self) -> None:
        if not (reading := self._rows.reading):
            return
        sequence = self._fair.next(reading, lambda one: one.unread)
        row = self._rows.row_of(sequence)
        alone = not self._rows.decoding
        copied = self._prefixes.restore(row, sequence, self._prefill_tokens)
        left = self._prefill_tokens - copied
        if left <= 0:
            return
        size = left if alone else shared_part(left, sequence.length)
        stop = min(sequence.length + size, sequence.prompt_tokens)
        logits = self._decoder.prefill(row, sequence.embeddings(sequence.length, stop), sequence.length)
        sequence.length = stop
        self._prefixes.keep(row, sequence)
        if sequence.decoding:
            self._rows.begin(sequence)
            self._prompt_tokens += sequence.prompt_tokens
            self._cached_tokens += sequence.restored
            self._report_totals()
            if sequence.accept(logits):
                self._release(sequence)

    def _report_totals(self) -> None:
        kept, generated = self._prefixes.bytes, self._generated_tokens
        self._report_stats(EngineStats(0.0, self._prompt_tokens, self._cached_tokens, 0, kept, generated))

    def _decode(self) -> None:
        running = self._rows.decoding
        if not running:
            return
        ids = np.array([sequence.generated[-1] for sequence in running])
        lengths = np.array([sequence.length for sequence in running])
        logits = self._decoder.decode(ids, lengths)
        ended = []
        for row, sequence in enumerate(running):
            sequence.length += 1
            if sequence.accept(logits[row]):
                ended.append(sequence)
        for sequence in reversed(ended):
            self._release(sequence)

    def _release(self, sequence: ActiveSequence) -> None:
        self._prefixes.keep(self._rows.row_of(sequence), sequence)
        self._rows.release(sequence)
        self._intake.end(sequence.generation)
        self._generated_tokens += len(sequence.generated)
        self._report_totals()

    def _fail_rows(self, error: Exception) -> None:
        for sequence in self._rows.clear():
            self._intake.end(sequence.generation)
            sequence.listener.failed(error)

    def _report(self) -> None:
        """Report changed counts. Only on the scheduler's thread, so that an old pair never follows a newer one."""
        counts = len(self._rows), len(self._intake)
        if counts != self._reported:
            self._reported = counts
            self._report_counts(*counts)
