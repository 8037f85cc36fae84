"""Target `rtx`: like `any`, with the encoder compiled by TensorRT for RTX.

Building needs neither a container nor a GPU. When this machine has a GPU that runs the engine, its answers are compared
with ONNX Runtime's before it is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import af3.encoder.tensorrt_encoder
from af3.encoder.host_encoder import HostEncoder
from af3.encoder.interface import TENSORRT_RTX_MODULE, Window
from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.tensorrt_encoder import TensorRTEncoder
from af3.manifest import ManifestError
from build_engines.encoder import encoder_probe, rtx_build, tensorrt_build
from build_engines.encoder.export_encoder import RaggedEncoder
from build_engines.source.checkpoint import Checkpoint
from build_engines.stage import Figures, Stage, require
from build_engines.targets import cpu
from build_engines.tool_commands import PARTS
from build_engines.vllm_plan import RTX_WINDOWS, require_rtx
from serving.machine import gpu

PLAN = "model.plan"


def encoder_stages(checkpoint: Checkpoint, output: Path) -> list[tuple[Stage, Path]]:
    """The stages in `OUTPUT/parts/`, and the engine that is served."""
    parts = output / PARTS
    placed = checkpoint.family.rotates_by_time
    onnx = replace(cpu.audio_encoder_stage(checkpoint, RaggedEncoder), name="encoder_onnx")
    source = parts / onnx.name / "model.onnx"
    half = Stage(
        "encoder_half",
        build=lambda folder: _write_half(source, folder),
        inputs={},
        after=(onnx,),
        code=(tensorrt_build,),
        packages=("ml_dtypes", "onnx"),
    )
    engine = Stage(
        "audio_encoder",
        build=partial(_build, parts / half.name / "model.onnx", source.parent, placed),
        inputs={"windows": RTX_WINDOWS},
        after=(half,),
        code=(af3.encoder.tensorrt_encoder, encoder_probe, rtx_build),
        packages=rtx_build.PACKAGES,
    )
    return [(onnx, parts), (half, parts), (engine, output)]


def _write_half(source: Path, folder: Path) -> Figures:
    tensorrt_build.write_mixed_precision(source, folder / "model.onnx")
    return {}


def _build(half: Path, source: Path, placed: bool, folder: Path) -> Figures:
    built = rtx_build.write_engine(half, folder / PLAN, RTX_WINDOWS, placed)
    figures = {
        "activation_bytes": float(max(built.activation_bytes)),
        "weight_bytes": float(built.weight_bytes),
    }
    try:
        found = gpu.find().identity
    except ManifestError as error:
        reason = str(error).partition(";")[0]
        print(f"  built but not compared: {reason}; build again on the GPU that will serve it")
        return figures
    require_rtx(found.name, found.compute_capability)
    engine = HostEncoder(TensorRTEncoder.load(folder, TENSORRT_RTX_MODULE))
    difference = relative_error(engine, AudioEncoder.load(source))
    require("relative error of embeddings", difference, encoder_probe.RELATIVE_ERROR_BOUND)
    return figures | {"relative_error": difference}


def relative_error(engine: HostEncoder, reference: AudioEncoder) -> float:
    """The largest relative error of the valid positions over all profiles' probes."""
    return max(_error(engine.encode(windows), reference.encode(windows)) for windows in probes())


def probes() -> list[list[Window]]:
    """The windows of every profile's probe, without padding.

    The last probe has two windows of one length, which share a call.
    """
    short, full, many = (
        [row[:length] for row, length in zip(feed["pcm"], feed["pcm_lengths"], strict=True)]
        for feed in (next(encoder_probe.short()), next(encoder_probe.full()), next(encoder_probe.many()))
    )
    return [
        [Window(samples, place) for place, samples in enumerate(clip)]
        for clip in (short, full, [*full, *many])
    ]


def _error(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    return encoder_probe.relative_error(np.concatenate(found), np.concatenate(expected))
