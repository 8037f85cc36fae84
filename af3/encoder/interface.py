"""What every encoder does, whichever engine it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from af3.encoder.device_array import DeviceArray

TENSORRT = "TensorRT"
TENSORRT_RTX = "TensorRT for RTX"
TENSORRT_RTX_MODULE = "tensorrt_rtx_bindings"

# Of one window, [tokens, hidden_size]: in this process's memory, or where the encoder runs.
Embeddings: TypeAlias = np.ndarray | DeviceArray


class Window(NamedTuple):
    """Up to 30 s of a clip: float32 samples at 16 kHz, [≤ 480 000], and the place of the window in its clip.

    The place (0, 1, 2 …) decides an embedding only where the model turns embeddings by their time (RoTE).
    """

    samples: np.ndarray
    place: int


class Encoder(Protocol):
    def encode(self, windows: Sequence[Window]) -> Sequence[Any]:
        """The embeddings of each window."""
        ...

    def join(self, embeddings: Sequence[Any]) -> np.ndarray | DeviceArray:
        """What `encode` gave, one after the other: a prompt table [1, tokens, hidden_size]."""
        ...
