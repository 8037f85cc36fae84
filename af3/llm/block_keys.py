"""Computes the keys under which the prefix cache stores blocks of tokens."""

from __future__ import annotations

import hashlib

import numpy as np

BLOCK_TOKENS = 16
DIGEST_BYTES = 32  # no two prompts share a key, by chance or by an attack


class BlockKeys:
    """The keys of a sequence's complete blocks: each is a digest of all embeddings up to the block's end."""

    def __init__(self, adapter: str | None):
        self._digest = hashlib.blake2b(repr(adapter).encode(), digest_size=DIGEST_BYTES)
        self.tokens = 0
        self.ends: list[bytes] = []

    def extend(self, embeddings: np.ndarray) -> None:
        """Append the embeddings float32 [S, H] of the next S tokens."""
        while len(embeddings):
            part, embeddings = np.split(embeddings, [BLOCK_TOKENS - self.tokens % BLOCK_TOKENS])
            self._digest.update(np.ascontiguousarray(part).data)
            self.tokens += len(part)
            if self.tokens % BLOCK_TOKENS == 0:
                self.ends.append(self._digest.digest())
