"""A decoder without a model, and a listener: what the scheduler does with rows, seen at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from af3.llm.sampling import SamplingSettings
from af3.llm.sequence import Generation

VOCABULARY = 64
WAIT_S = 30


class EchoDecoder:
    """`af3.llm.decoder.Decoder` whose next token is 1 + the last one, and whose cache holds that token by row.

    A row that is moved wrongly, or not at all, continues another's answer and fails `decode`. `held` keeps the
    decoder inside `decode` until it is released; `steps` counts decode steps.
    """

    vocab_size, hidden_size, max_sequence_tokens = VOCABULARY, 1, 10_000

    def __init__(self, rows: int = 4) -> None:
        self.rows = rows
        self.cache = np.zeros(rows, int)
        self.prefills: list[tuple[int, int]] = []  # (row, tokens)
        self.decoding = threading.Event()  # a decode step has begun
        self.go_on = threading.Event()
        self.go_on.set()

    def embed(self, ids: np.ndarray, table: np.ndarray | None) -> np.ndarray:
        return ids[:, None].astype(np.float32)

    def prefill(self, row: int, embeddings: np.ndarray, past: int) -> np.ndarray:
        self.prefills.append((row, len(embeddings)))
        last = int(embeddings[-1, 0])
        self.cache[row] = (last + 1) % VOCABULARY
        return self._logits(np.array(last))

    def decode(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        self.decoding.set()
        assert self.go_on.wait(WAIT_S)
        count = len(ids)
        assert (self.cache[:count] == ids).all(), "rows and sequences have come apart"
        self.cache[:count] = (ids + 1) % VOCABULARY
        return self._logits(ids)

    def free(self, row: int) -> None:
        self.cache[row] = -1

    def move(self, source: int, target: int, length: int) -> None:
        self.cache[target] = self.cache[source]

    def swap(self, row: int, other: int, length: int, other_length: int) -> None:
        self.cache[[row, other]] = self.cache[[other, row]]

    def _logits(self, last: np.ndarray) -> np.ndarray:
        return np.eye(VOCABULARY, dtype=np.float32)[(last + 1) % VOCABULARY]


class Heard:
    """Listener that keeps what it hears; `go_on` cleared holds the scheduler at a token."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.error: Exception | None = None
        self.ended = threading.Event()
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.gone = False

    def tokens(self, ids: Sequence[int], final: bool) -> None:
        self.ids += ids
        self.started.set()
        self.go_on.wait(WAIT_S)
        if final:
            self.ended.set()

    def failed(self, error: Exception) -> None:
        self.error = error
        self.ended.set()

    def cancelled(self) -> bool:
        return self.gone

    def answer(self) -> list[int]:
        """Its tokens, once it has ended without an error."""
        assert self.ended.wait(WAIT_S)
        assert self.error is None, self.error
        return self.ids

    def failure(self) -> Exception:
        """The error it ended with."""
        assert self.ended.wait(WAIT_S)
        assert self.error is not None, self.ids
        return self.error


def generation(
    name: str, prompt: Sequence[int], tokens: int = 20, timeout_s: float | None = None, **settings: Any
) -> Generation:
    """Greedy unless told otherwise; `end_id`, `stop_words`, `table` or fields of SamplingSettings."""
    end_id, stop_words = settings.pop("end_id", None), settings.pop("stop_words", ())
    table = settings.pop("table", None)
    sampling = SamplingSettings(**settings)
    ids = np.array(prompt, np.int32)
    return Generation(name, ids, table, tokens, end_id, stop_words, sampling, timeout_s)
