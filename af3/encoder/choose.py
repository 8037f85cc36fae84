"""The encoder that a config asks for by its `provider`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from af3.encoder.interface import TENSORRT, Encoder
from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.tensorrt_encoder import TensorRTEncoder


def load_encoder(
    folder: Path, provider: str, threads: int, moved: Callable[[], None] = lambda: None
) -> Encoder:
    """Load from `engines/<target>/audio_encoder/`.

    provider: TensorRT, or an execution provider of ONNX Runtime: CPUExecutionProvider, or
    CUDAExecutionProvider for a GPU without TensorRT (with the package onnxruntime-gpu). threads: of ONNX
    Runtime, 0 for every core. moved: called before every run of an engine that may take seconds.
    """
    if provider == TENSORRT:
        return TensorRTEncoder.load(folder)
    return AudioEncoder.load(folder, provider, threads, moved)
