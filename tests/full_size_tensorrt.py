"""AF-Whisper and the adaptor in AF3's own sizes, random weights, built by real TensorRT on a CPU.

Both forms: Audio Flamingo 3's, and that of Audio Flamingo Next, which looks its rotation by time up in a table.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import MusicFlamingoConfig, WhisperFeatureExtractor
from transformers.models.musicflamingo.modeling_musicflamingo import MusicFlamingoRotaryEmbedding

from build_engines import memory_plan
from build_engines.encoder import rtx_build, tensorrt_build
from build_engines.encoder.export_encoder import RaggedEncoder, export
from build_engines.encoder.rtx_build import Built
from build_engines.encoder.time_rotation import TabulatedRotation
from build_engines.memory_plan import Geometry
from build_engines.targets.target import Target
from perf.full_size import modules

LAYERS = 32
FORMS = {"af3": memory_plan.AUDIO_FLAMINGO_3, "next": memory_plan.WITH_ROTATION}


def check(target: Target) -> int:
    """Build both, print what TensorRT says beside the plan; 1 where it is not what the plan and the config say."""
    found = {name: _form(name, geometry, target) for name, geometry in FORMS.items()}
    print(json.dumps(found, indent=1))
    wrong = [f"{name}: {sentence}" for name, form in found.items() for sentence in form["wrong"]]
    print("\n".join(wrong) or "types, shapes and memory are those of the config and the plan")
    return 1 if wrong else 0


def _form(name: str, geometry: Geometry, target: Target) -> dict[str, Any]:
    rotates = geometry.rotation_angles > 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        tower, projector = modules(LAYERS)
        turn = TabulatedRotation(
            MusicFlamingoRotaryEmbedding(MusicFlamingoConfig()), geometry.rotation_windows
        )
        filters = WhisperFeatureExtractor(feature_size=memory_plan.MEL_BINS).mel_filters
        export(RaggedEncoder(tower, projector, filters, turn if rotates else None), folder)
        del tower, projector, turn
        tensorrt_build.write_mixed_precision(folder / "model.onnx", folder / "half.onnx")
        began = time.monotonic()
        built = rtx_build.compile_engine(
            folder / "half.onnx", rtx_build.bounds(tensorrt_build.profiles(target), rotates)
        )
    planned = memory_plan.plan(target, geometry)
    return {
        "seconds": round(time.monotonic() - began, 1),
        "inputs": built.inputs,
        "outputs": built.outputs,
        "layers": len(built.layers),
        "engine_bytes": built.engine_bytes,
        "weight_bytes": built.weight_bytes,
        "planned_weight_bytes": planned.encoder_weights + planned.rotation_tables,
        "activation_bytes": built.activation_bytes,
        "planned_activation_bytes": planned.encoder_activations,
        "warnings": built.warnings,
        "wrong": list(wrong(built, geometry, planned)),
    }


def wrong(built: Built, geometry: Geometry, planned: memory_plan.MemoryPlan) -> Sequence[str]:
    """Sentences about what is not as the config, the runner and the memory plan take it to be."""
    inputs: dict[str, Any] = {"pcm": ("FLOAT", (-1, -1)), "pcm_lengths": ("INT64", (-1,))}
    if geometry.rotation_angles:
        inputs["window_index"] = ("INT64", (-1,))
    outputs = {"audio_embeddings": ("BF16", (-1, -1, geometry.hidden_size))}
    found = []
    if built.inputs != inputs:
        found.append(f"inputs are {built.inputs}, must be {inputs}")
    if built.outputs != outputs:
        found.append(f"outputs are {built.outputs}, must be {outputs}")
    most = max(built.activation_bytes, default=0)
    if not 0 < most <= planned.encoder_activations:
        found.append(f"activations take {most} bytes, the plan has {planned.encoder_activations}")
    weights = planned.encoder_weights + planned.rotation_tables
    if not 0.9 * weights < built.weight_bytes <= 1.05 * weights:
        found.append(f"weights take {built.weight_bytes} bytes, the plan has {weights}")
    return found
