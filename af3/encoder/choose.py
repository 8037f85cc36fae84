"""Loads the encoder for a config's `provider`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnxruntime

from af3.encoder.host_encoder import HostEncoder
from af3.encoder.interface import TENSORRT, TENSORRT_RTX, TENSORRT_RTX_MODULE, Encoder
from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.tensorrt_encoder import TensorRTEncoder
from af3.manifest import Manifest, ManifestError

AUTO = "auto"
RTX = "rtx"  # the target whose encoder is compiled by TensorRT for RTX
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load_encoder(
    folder: Path, provider: str, threads: int, moved: Callable[[], None] = lambda: None
) -> Encoder:
    """Load from `engines/<target>/audio_encoder/`.

    provider: TensorRT, TensorRT for RTX (returns embeddings in host memory), or an execution provider of ONNX Runtime:
    CPUExecutionProvider, or CUDAExecutionProvider for a GPU without TensorRT (needs the package onnxruntime-gpu);
    auto: chosen by the manifest's target. threads: of ONNX Runtime, 0 for every core. moved: called before each run of
    an engine that may take seconds.
    Raises ManifestError when ONNX Runtime lacks the provider; it would silently fall back to the CPU.
    """
    if provider == AUTO:
        manifest = Manifest.read(folder.parent)
        provider = TENSORRT_RTX if manifest.target == RTX else PROVIDERS[manifest.device]
    if provider == TENSORRT:
        return TensorRTEncoder.load(folder)
    if provider == TENSORRT_RTX:
        return HostEncoder(TensorRTEncoder.load(folder, TENSORRT_RTX_MODULE))
    if provider != PROVIDERS["cuda"]:
        return AudioEncoder.load(folder, provider, threads, moved)
    onnxruntime.preload_dlls()  # CUDA and cuDNN from wheels, if the system has none
    encoder = AudioEncoder.load(folder, provider, threads, moved)
    if provider not in encoder.session.get_providers():
        raise ManifestError(
            f"{folder}: ONNX Runtime has no {provider} here; `make setup-vllm GPU=any` installs it,"
            " `make doctor GPU=any` says what else is missing"
        )
    return encoder
