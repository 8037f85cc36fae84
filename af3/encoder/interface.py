"""The interface of all encoders, whichever engine they run on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from af3.encoder.device_array import DeviceArray

TENSORRT = "TensorRT"
TENSORRT_RTX = "TensorRT for RTX"
TENSORRT_RTX_MODULE = "tensorrt_rtx_bindings"

# Embeddings of one window, [tokens, hidden_size], in host memory or on the encoder's device.
Embeddings: TypeAlias = np.ndarray | DeviceArray


class Window(NamedTuple):
    """Up to 30 s of a clip: float32 samples at 16 kHz, [≤ 480 000], and the window's index in its clip.

    The index (0, 1, 2 …) affects embeddings only in models with RoTE.
    """

    samples: np.ndarray
    place: int


class Encoder(Protocol):
    def parts(self, windows: Sequence[Window]) -> list[list[int]]:
        """Group windows, by their indices, into runs of the engine; a window without a token needs none."""
        ...

    def encode(self, windows: Sequence[Window]) -> Sequence[Any]:
        """Return the embeddings of each window."""
        ...

    def join(self, embeddings: Sequence[Any]) -> np.ndarray | DeviceArray:
        """Concatenate the results of `encode` to a prompt table [1, tokens, hidden_size]."""
        ...
