"""The encoder that a config asks for by its `provider`."""

from __future__ import annotations

from pathlib import Path

from af3.encoder.interface import TENSORRT, Encoder
from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.tensorrt_encoder import TensorRTEncoder


def load_encoder(folder: Path, provider: str, threads: int) -> Encoder:
    """Load from `engines/<target>/audio_encoder/`.

    provider: TensorRT, or an execution provider of ONNX Runtime: CPUExecutionProvider, or
    CUDAExecutionProvider for a GPU without TensorRT (with the package onnxruntime-gpu). threads: of ONNX
    Runtime, 0 for every core.
    """
    if provider == TENSORRT:
        return TensorRTEncoder.load(folder)
    return AudioEncoder.load(folder, provider, threads)
