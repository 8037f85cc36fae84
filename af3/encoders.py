"""The encoder that a config asks for by its `provider`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from af3.device_array import DeviceArray
from af3.encoder import AudioEncoder
from af3.encoder_tensorrt import TensorRTEncoder

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


def load_encoder(folder: Path, provider: str, threads: int) -> Encoder:
    """Load from `engines/<target>/audio_encoder/`.

    provider: TensorRT, or an execution provider of ONNX Runtime: CPUExecutionProvider, or
    CUDAExecutionProvider for a GPU without TensorRT (with the package onnxruntime-gpu). threads: of ONNX
    Runtime, 0 for every core.
    """
    if provider == TENSORRT:
        return TensorRTEncoder.load(folder)
    return AudioEncoder.load(folder, provider, threads)
