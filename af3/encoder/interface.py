"""What every encoder does, whichever engine it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from af3.encoder.device_array import DeviceArray

TENSORRT = "TensorRT"

# Of one window, [tokens, hidden_size]: in this process's memory, or where the encoder runs.
Embeddings: TypeAlias = np.ndarray | DeviceArray


class Encoder(Protocol):
    def encode(self, windows: Sequence[np.ndarray]) -> Sequence[Any]:
        """Windows of float32 16 kHz samples, [≤ 480 000] each → the embeddings of each."""
        ...

    def join(self, embeddings: Sequence[Any]) -> np.ndarray | DeviceArray:
        """What `encode` gave, one after the other: a prompt table [1, tokens, hidden_size]."""
        ...
