"""An encoder on a GPU that returns embeddings in host memory, for an LLM that reads them there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from af3.encoder.device_array import DeviceArray
from af3.encoder.interface import Window
from af3.encoder.tensorrt_encoder import TensorRTEncoder


class HostEncoder:
    """Converts TensorRT's embeddings to the ONNX encoder's format: float32 [tokens, hidden_size] per window."""

    def __init__(self, encoder: TensorRTEncoder):
        self._encoder = encoder

    def encode(self, windows: Sequence[Window]) -> list[np.ndarray]:
        return [self._on_host(embeddings) for embeddings in self._encoder.encode(windows)]

    def parts(self, windows: Sequence[Window]) -> list[list[int]]:
        return self._encoder.parts(windows)

    def join(self, embeddings: Sequence[np.ndarray]) -> np.ndarray:
        """Concatenate to a prompt table, float32 [1, tokens, hidden_size]."""
        return np.concatenate(embeddings)[None]

    def _on_host(self, embeddings: DeviceArray) -> np.ndarray:
        found = self._encoder.device.download(embeddings.memory.address, embeddings.nbytes)
        if embeddings.dtype == "bfloat16":  # the upper half of a float32
            values = (found.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = found.view(embeddings.dtype).astype(np.float32)
        return values.reshape(embeddings.shape)
