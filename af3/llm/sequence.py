"""A request to the LLM: its inputs, its listener and its progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from af3.llm.block_keys import BlockKeys
from af3.llm.decoder import Decoder
from af3.llm.sampling import Sampler, SamplingSettings
from af3.llm.stop_words import StopWords


@dataclass(frozen=True, eq=False)
class Generation:
    """The inputs of one generation. Compared by identity, because arrays have no single truth value.

    input_ids: int32 [S]; ids from vocab_size on are rows of `table`, float32 [P, H].
    stop_words: token sequences that end the answer; unlike `end_id` they are part of it (as in TensorRT-LLM).
    adapter: name of the LoRA to use; None for the base model.
    timeout_s: from submission; a generation without a token by then fails with DEADLINE_EXCEEDED. A running one is
        stopped by its reader, because only that ends its state in the following steps.
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
    """Receives the tokens of one generation, on the engine's thread. Must not raise."""

    def tokens(self, ids: Sequence[int], final: bool) -> None:
        """Receive new tokens; the final call may have none."""

    def failed(self, error: Exception) -> None:
        """The generation ended without an answer."""

    def cancelled(self) -> bool:
        """Whether the client has left."""


class ActiveSequence:
    """A generation that holds a row of the KV cache."""

    def __init__(self, generation: Generation, listener: Listener, decoder: Decoder):
        self.generation = generation
        self.listener = listener
        self.prompt_tokens = len(generation.input_ids)
        self.length = 0  # tokens in the KV cache
        self.restored = 0  # those copied from the prefix cache
        self.keys = BlockKeys(generation.adapter)
        self._decoder = decoder
        self._prompt = decoder.embed(generation.input_ids, generation.table)
        self.generated: list[int] = []
        self._sampler = Sampler(generation.sampling, generation.input_ids, decoder.vocab_size)
        self._stop_words = StopWords(generation.end_id, generation.stop_words)

    @property
    def decoding(self) -> bool:
        return self.length >= self.prompt_tokens

    @property
    def unread(self) -> int:
        """Tokens of the prompt that are still to be read."""
        return self.prompt_tokens - self.length

    @property
    def begun(self) -> bool:
        return bool(self.generated)

    def embeddings(self, start: int, stop: int) -> np.ndarray:
        """Embeddings float32 [stop - start, H] of tokens start … stop-1, all in the prompt or all in the answer."""
        if start < self.prompt_tokens:
            return self._prompt[start:stop]
        answer = self.generated[start - self.prompt_tokens : stop - self.prompt_tokens]
        return self._decoder.embed(np.array(answer, np.int32), None)

    def accept(self, logits: np.ndarray) -> bool:
        """Sample the next token and send it to the listener; True when it was the last."""
        kept, ended = self._stop_words.accept([self._sampler.next_token(logits)])
        self.generated += kept
        final = ended or len(self.generated) == self.generation.max_new_tokens
        self.listener.tokens(tuple(kept), final=final)
        return final
