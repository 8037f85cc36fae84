"""A decoder without a model whose answers depend on every key and value that a row should hold."""

from __future__ import annotations

import numpy as np

from af3.llm.sequence import Generation

VOCABULARY = 101


class RecallingDecoder:
    """`af3.llm.decoder.Decoder` whose "keys" of a token are its embedding, and whose next token is a sum over all.

    Each place weighs differently, so a block that is missing, of another prompt or at another place gives another
    answer. Rows start as NaN: what is read before it was written shows as an error. `computed`: tokens by prefill.
    """

    vocab_size, hidden_size, max_sequence_tokens = VOCABULARY, 1, 2_000

    def __init__(self, rows: int = 4) -> None:
        self.rows = rows
        self.cache = np.full((rows, self.max_sequence_tokens), np.nan, np.float32)
        self.computed = 0
        self.fails_after: int | None = None  # tokens by prefill

    def embed(self, ids: np.ndarray, table: np.ndarray | None) -> np.ndarray:
        embeddings = ids[:, None].astype(np.float32)
        virtual = ids >= VOCABULARY
        if table is not None:
            embeddings[virtual] = table[ids[virtual] - VOCABULARY]
        return embeddings

    def prefill(self, row: int, embeddings: np.ndarray, past: int) -> np.ndarray:
        self.cache[row, past : past + len(embeddings)] = embeddings[:, 0]
        self.computed += len(embeddings)
        if self.fails_after is not None and self.computed > self.fails_after:
            raise RuntimeError("planted")
        return self._logits(row, past + len(embeddings))

    def decode(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        for row, (token, length) in enumerate(zip(ids, lengths, strict=True)):
            self.cache[row, length] = token
        return np.stack([self._logits(row, length + 1) for row, length in enumerate(lengths)])

    def free(self, row: int) -> None:
        self.cache[row] = np.nan

    def move(self, source: int, target: int, length: int) -> None:
        self.free(target)
        self.cache[target, :length] = self.cache[source, :length]

    def swap(self, row: int, other: int, length: int, other_length: int) -> None:
        kept = self.cache[row, :length].copy()
        self.cache[row, :other_length] = self.cache[other, :other_length]
        self.cache[other, :length] = kept

    def saved(self, row: int, start: int, tokens: int) -> np.ndarray:
        return self.cache[row, start : start + tokens].reshape(1, 1, tokens, 1).copy()

    def restore(self, row: int, start: int, saved: np.ndarray) -> None:
        self.cache[row, start : start + saved.shape[2]] = saved[0, 0, :, 0]

    def _logits(self, row: int, length: int) -> np.ndarray:
        return np.eye(VOCABULARY, dtype=np.float32)[next_token(self.cache[row, :length])]


def next_token(held: np.ndarray) -> int:
    """What follows these keys, float32 [S]. NaN among them raises ValueError."""
    weights = 1 + np.arange(len(held)) % 97
    return int(np.dot(held.astype(np.float64), weights)) % VOCABULARY


def cold_answer(asked: Generation) -> list[int]:
    """The answer of a server that has never read anything else."""
    held = RecallingDecoder(1).embed(asked.input_ids, asked.table)[:, 0].tolist()
    answer: list[int] = []
    for _ in range(asked.max_new_tokens):
        answer.append(next_token(np.array(held, np.float32)))
        held.append(float(answer[-1]))
    return answer
