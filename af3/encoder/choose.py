"""The encoder that a config asks for by its `provider`."""

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
RTX = "rtx"  # target whose encoder TensorRT for RTX has compiled
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load_encoder(
    folder: Path, provider: str, threads: int, moved: Callable[[], None] = lambda: None
) -> Encoder:
    """Load from `engines/<target>/audio_encoder/`.

    provider: TensorRT, TensorRT for RTX (which gives its embeddings on to an LLM that is elsewhere), or an execution
    provider of ONNX Runtime: CPUExecutionProvider, or CUDAExecutionProvider for a GPU without TensorRT (with the
    package onnxruntime-gpu); auto: the one of the target that the manifest names. threads: of ONNX Runtime, 0 for every
    core. moved: called before every run of an engine that may take seconds.

    Raises ManifestError where ONNX Runtime has no such provider: it would take the CPU and not say so.
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
    onnxruntime.preload_dlls()  # CUDA and cuDNN of the wheels, where the system has none
    encoder = AudioEncoder.load(folder, provider, threads, moved)
    if provider not in encoder.session.get_providers():
        raise ManifestError(
            f"{folder}: ONNX Runtime has no {provider} here; `make setup-vllm GPU=any` installs it,"
            " `make doctor GPU=any` says what else is missing"
        )
    return encoder
