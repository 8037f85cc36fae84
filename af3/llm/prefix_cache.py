"""Keeps the keys and values of earlier prompts, so that a second question about a clip prefills only the new part.

    row       ████████████████████████░░░░     a prompt: keys and values copied from the cache, then computed
    blocks    b0    b1    b2    b3             of 16 tokens; the last token of a prompt is always computed

The keys and values of a token depend only on the embeddings up to it and on the adapter. So the digest of exactly these
is the key of a block.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import numpy as np

from af3.llm.block_keys import BLOCK_TOKENS
from af3.llm.sequence import ActiveSequence


class CacheRows(Protocol):
    """The methods of `af3.llm.decoder.Decoder` that the cache calls."""

    def saved(self, row: int, start: int, tokens: int) -> np.ndarray: ...

    def restore(self, row: int, start: int, saved: np.ndarray) -> None: ...


class PrefixCache:
    """The most recently used blocks, up to `most_bytes`; 0 turns the cache off. For one thread.

    Blocks are copies, so a row that is moved, stopped or fails does not change them. Of a prompt longer than the cache,
    the beginning is kept.
    """

    def __init__(self, decoder: CacheRows, most_bytes: int):
        self._decoder = decoder
        self._most_bytes = most_bytes
        self._kept: OrderedDict[bytes, np.ndarray] = OrderedDict()  # least recently used first
        self.bytes = 0

    def restore(self, row: int, sequence: ActiveSequence, most_tokens: int) -> int:
        """Copy the next cached blocks of a prompt into `row`; returns how many tokens, at most `most_tokens`.

        Never copies the last token, because its logits give the first token of the answer. Copies nothing once a part
        of the prompt has been computed.
        """
        before = sequence.length
        while (
            self._most_bytes
            and sequence.length == sequence.restored
            and sequence.length - before + BLOCK_TOKENS <= most_tokens
            and sequence.length + BLOCK_TOKENS < sequence.prompt_tokens
        ):
            self._extend(sequence, sequence.length + BLOCK_TOKENS)
            key = sequence.keys.ends[sequence.length // BLOCK_TOKENS]
            if key not in self._kept:
                break
            self._decoder.restore(row, sequence.length, self._kept[key])
            sequence.length += BLOCK_TOKENS
            sequence.restored += BLOCK_TOKENS
        return sequence.length - before

    def keep(self, row: int, sequence: ActiveSequence) -> None:
        """Cache the complete blocks of a sequence in `row`, including its answer."""
        if not self._most_bytes:
            return
        self._extend(sequence, sequence.length)
        keys = sequence.keys.ends[: sequence.length // BLOCK_TOKENS]
        for place, key in enumerate(keys):
            if key in self._kept:
                continue
            block = self._decoder.saved(row, place * BLOCK_TOKENS, BLOCK_TOKENS)
            if not self._make_room(block.nbytes, keys):
                break
            self._kept[key] = block
            self.bytes += block.nbytes
        # A block is useless without those before it, so the end of a prompt is evicted before its beginning.
        for key in reversed(keys):
            if key in self._kept:
                self._kept.move_to_end(key)

    def _make_room(self, size: int, keys: list[bytes]) -> bool:
        """Evict the least recently used blocks; False when the next to evict is one of `keys`."""
        while self.bytes + size > self._most_bytes:
            if not self._kept or next(iter(self._kept)) in keys:
                return False
            self.bytes -= self._kept.popitem(last=False)[1].nbytes
        return True

    def _extend(self, sequence: ActiveSequence, tokens: int) -> None:
        """Compute the keys of the first `tokens` tokens."""
        known = sequence.keys.tokens
        if known < tokens:
            sequence.keys.extend(sequence.embeddings(known, tokens))
