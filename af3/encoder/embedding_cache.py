"""Caches the embeddings of audio windows, so that a second question about a clip skips the encoder.

A window's embeddings depend only on its samples, its place in its clip and the engine (there is no attention across
windows). So a clip is found again window by window, in another turn, beside other clips or with another question.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

import numpy as np

from af3.encoder.device_array import DeviceArray
from af3.encoder.interface import Embeddings, Encoder, Window

DIGEST_BYTES = 32  # long enough against collisions, accidental or deliberate


class CachedEncoder:
    """An encoder with an LRU cache of up to `most_bytes` of embeddings; 0 disables the cache.

    identity: changes whenever the same samples could get other embeddings (checkpoint, precision). Not thread-safe.
    """

    def __init__(self, encoder: Encoder, identity: str, most_bytes: int):
        self._encoder = encoder
        self._identity = identity.encode()
        self._most_bytes = most_bytes
        self._kept: OrderedDict[bytes, Embeddings] = OrderedDict()  # least recently used first
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def table(self, windows: Sequence[Window]) -> np.ndarray | DeviceArray:
        """Encode all windows into one prompt table, [1, tokens, hidden_size]."""
        return self.tables([windows])[0]

    def tables(self, requests: Sequence[Sequence[Window]]) -> list[np.ndarray | DeviceArray]:
        """Encode a prompt table for each request, all in one call of the encoder; equal windows are encoded once."""
        windows = [window for request in requests for window in request]
        embeddings = iter(self.encode(windows))
        return [self.join(list(islice(embeddings, len(request)))) for request in requests]

    def join(self, embeddings: Sequence[Embeddings]) -> np.ndarray | DeviceArray:
        """Concatenate the results of `encode` to a prompt table, [1, tokens, hidden_size]."""
        return self._encoder.join(embeddings)

    def parts(self, windows: Sequence[Window]) -> list[list[int]]:
        """Group windows, by their indices, into runs of the encoder."""
        return self._encoder.parts(windows)

    def cached(self, windows: Sequence[Window]) -> dict[int, Embeddings]:
        """Return the embeddings of the windows that need no encoder, by the windows' indices."""
        if not self._most_bytes:
            return {}
        keys = enumerate(map(self._key, windows))
        found = {index: self._kept[key] for index, key in keys if key in self._kept}
        self.hits += len(found)
        return found

    def encode(self, windows: Sequence[Window]) -> Sequence[Embeddings]:
        """Return the embeddings of each window; equal windows are encoded once."""
        if not self._most_bytes:
            return self._encoder.encode(windows)
        keys = [self._key(window) for window in windows]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        new = {key: window for key, window in zip(keys, windows, strict=True) if key not in found}
        self.hits += len(windows) - len(new)
        self.misses += len(new)
        found |= zip(new, self._encoder.encode(list(new.values())), strict=True)
        for key in keys:
            self._keep(key, found[key])
        return [found[key] for key in keys]

    def _key(self, window: Window) -> bytes:
        """Hash the window's place and all its samples, bit for bit."""
        digest = hashlib.blake2b(self._identity, digest_size=DIGEST_BYTES)
        # Hash the identity's length too, else an identity that ends in sample bytes could collide with a shorter one.
        digest.update(len(self._identity).to_bytes(8, "little"))
        digest.update(window.place.to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(window.samples).data)
        return digest.digest()

    def _keep(self, key: bytes, embeddings: Embeddings) -> None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return
        self._kept[key] = embeddings
        self.bytes += embeddings.nbytes
        while self.bytes > self._most_bytes:
            self.bytes -= self._kept.popitem(last=False)[1].nbytes
