"""One request to the LLM: what is to be generated, who listens, and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from af3.llm.decoder import Decoder
from af3.llm.sampling import Sampler, SamplingSettings


@dataclass(frozen=True, eq=False)
class Generation:
    """What is to be generated for one request. Two are never equal: arrays have no one truth value.

    input_ids: int32 [S]; ids from vocab_size on are rows of `table`, float32 [P, H].
    stop_words: token sequences that end the answer; unlike `end_id` they are part of it (TensorRT-LLM).
    adapter: name of a LoRA to answer with; None for the model as it is.
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
    adapter: str | None = None


class Listener(Protocol):
    """Receives what is generated; called from the scheduler's thread. Must not raise."""

    def tokens(self, ids: Sequence[int], final: bool) -> None:
        """New tokens. The last call may bring none."""

    def failed(self, error: Exception) -> None:
        """The generation ended without an answer."""

    def cancelled(self) -> bool:
        """True when nobody listens any more."""


class ActiveSequence:
    """A generation that holds a row of the KV cache."""

    def __init__(self, generation: Generation, listener: Listener, decoder: Decoder):
        self.generation = generation
        self.listener = listener
        self.pending = decoder.embed(generation.input_ids, generation.table)  # prompt not yet read
        self.length = 0  # tokens in the cache
        self.generated: list[int] = []
        self._sampler = Sampler(generation.sampling, generation.input_ids, decoder.vocab_size)

    @property
    def decoding(self) -> bool:
        return len(self.pending) == 0

    @property
    def begun(self) -> bool:
        return bool(self.generated)

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
