"""Embeddings of audio windows that were heard before: a second question about a clip skips the encoder.

A window's embeddings depend on its samples, its place in its clip and the engine alone (no attention across
windows), so a clip that comes back in another turn, beside other clips or behind another question is found window by
window.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

import numpy as np

from af3.encoder.device_array import DeviceArray
from af3.encoder.interface import Embeddings, Encoder, Window

DIGEST_BYTES = 32  # two different windows never share a key by chance, nor by somebody's design


class CachedEncoder:
    """An encoder in front of which the embeddings last used are kept, up to `most_bytes`; 0 keeps none.

    identity: changes whenever the same samples could get other embeddings (checkpoint, precision). For one
    thread.
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
        """One prompt table of all windows, [1, tokens, hidden_size]."""
        return self.tables([windows])[0]

    def tables(self, requests: Sequence[Sequence[Window]]) -> list[np.ndarray | DeviceArray]:
        """One prompt table for each request, all their windows in one call of the encoder; equal ones once."""
        windows = [window for request in requests for window in request]
        embeddings = iter(self._embeddings(windows) if self._most_bytes else self._encoder.encode(windows))
        return [self._encoder.join(list(islice(embeddings, len(request)))) for request in requests]

    def _embeddings(self, windows: Sequence[Window]) -> list[Embeddings]:
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
        """Of the window's place, and of every sample, bit for bit."""
        digest = hashlib.blake2b(self._identity, digest_size=DIGEST_BYTES)
        # The length of the identity, or one that ends in samples would be like another without them.
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
