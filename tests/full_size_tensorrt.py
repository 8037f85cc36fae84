"""Every graph that TensorRT gets, in its own sizes with random weights, built by real TensorRT on a CPU.

AF-Whisper with the adaptor in both forms: Audio Flamingo 3's, and that of Audio Flamingo Next, which looks its rotation
by time up in a table. Then the three graphs of a VITS voice as large as facebook/mms-tts-eng. There are no others:
TensorRT-LLM makes the LLM's engine without ONNX, and ONNX Runtime runs Kokoro on every target.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import MusicFlamingoConfig, VitsConfig, WhisperFeatureExtractor
from transformers.models.musicflamingo.modeling_musicflamingo import MusicFlamingoRotaryEmbedding

from af3.speech.built_voice import VOICE_FOLDER
from af3.speech.engines.vits_interface import DECODER, FLOW, GRAPHS, TEXT
from build_engines import memory_plan
from build_engines.encoder import rtx_build, tensorrt_build
from build_engines.encoder.export_encoder import RaggedEncoder, export
from build_engines.encoder.rtx_build import Bounds, Built
from build_engines.encoder.time_rotation import TabulatedRotation
from build_engines.memory_plan import Geometry
from build_engines.stage import run
from build_engines.targets.target import Target
from build_engines.voice import export_voice, tensorrt_voice
from perf.full_size import modules
from tests.support.vits_checkpoint import save_random

LAYERS = 32
VOICE = "voice"
FORMS = {"af3": memory_plan.AUDIO_FLAMINGO_3, "next": memory_plan.WITH_ROTATION}


# A voice's tensors as its runner takes them, in their order; -1 is dynamic, None the voice's own number.
VOICE_TENSORS: dict[str, list[tuple[str, str, tuple[int | None, ...]]]] = {
    TEXT: [("input_ids", "INT64", (1, -1)), ("means", "FLOAT", (1, -1, None)), ("frames", "FLOAT", (1, -1))],
    FLOW: [("latents", "FLOAT", (1, None, -1)), ("flowed", "FLOAT", (1, None, -1))],
    DECODER: [("latents", "FLOAT", (1, None, -1)), ("waveform", "FLOAT", (1, -1))],
}


def check(target: Target) -> int:
    """Build all, print what TensorRT says beside the plan; 1 where it is not what the plan and the config say."""
    began, said = time.monotonic(), []
    # A process for each piece of work, one after the other: what torch keeps would come on top of TensorRT's 8.5 GiB.
    alone = multiprocessing.get_context("spawn")
    with alone.Pool(1, maxtasksperchild=1) as process:
        for name in (*FORMS, VOICE):
            with tempfile.TemporaryDirectory() as made:
                process.apply(_write, (name, Path(made)))
                found = process.apply(_compile, (name, Path(made), target))
            for graph, facts in found.items():
                print(graph, *(f"  {fact}: {value}" for fact, value in facts.items()), sep="\n", flush=True)
                said += [f"{graph}: {sentence}" for sentence in facts["wrong"]]
    print("\n".join(said) or "types, shapes and memory are those of the configs, the runners and the plan")
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    took_s, load = time.monotonic() - began, " ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{took_s / 60:.1f} min, peak memory {peak_gib:.1f} GiB, load {load} on {os.cpu_count()} cores")
    return 1 if said else 0


def _write(name: str, folder: Path) -> None:
    """Write the ONNX files that TensorRT gets."""
    if name == VOICE:
        run([export_voice.stage(str(save_random(folder / "checkpoint", VitsConfig())))], folder)
        return
    geometry = FORMS[name]
    tower, projector = modules(LAYERS)
    turn = TabulatedRotation(MusicFlamingoRotaryEmbedding(MusicFlamingoConfig()), geometry.rotation_windows)
    filters = WhisperFeatureExtractor(feature_size=memory_plan.MEL_BINS).mel_filters
    export(RaggedEncoder(tower, projector, filters, turn if geometry.rotation_angles else None), folder)
    del tower, projector, turn
    tensorrt_build.write_mixed_precision(folder / "model.onnx", folder / "half.onnx")


def _compile(name: str, folder: Path, target: Target) -> dict[str, dict[str, Any]]:
    """Graph → what TensorRT says of it, and what is wrong with that."""
    if name == VOICE:
        return _voice(folder)
    geometry, began = FORMS[name], time.monotonic()
    shapes = rtx_build.bounds(tensorrt_build.profiles(target), geometry.rotation_angles > 0)
    built = rtx_build.compile_engine(folder / "half.onnx", shapes)
    planned = memory_plan.plan(target, geometry)
    facts = {
        "seconds": round(time.monotonic() - began, 1),
        **_facts(built),
        "planned_weight_bytes": planned.encoder_weights + planned.rotation_tables,
        "planned_activation_bytes": planned.encoder_activations,
        "wrong": list(wrong(built, geometry, planned)),
    }
    return {name: facts}


def _facts(built: Built) -> dict[str, Any]:
    return {
        "inputs": built.inputs,
        "outputs": built.outputs,
        "layers": len(built.layers),
        "engine_bytes": built.engine_bytes,
        "weight_bytes": built.weight_bytes,
        "activation_bytes": built.activation_bytes,
        "warnings": built.warnings,
    }


def _voice(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    shapes = tensorrt_voice.Shapes.of(str(folder / "checkpoint"))
    for name in GRAPHS:
        began = time.monotonic()
        graph = folder / VOICE_FOLDER / f"{name}.onnx"
        built = rtx_build.compile_engine(graph, [voice_profile(shapes.bounds(name))])
        found[f"voice {name}"] = {
            "seconds": round(time.monotonic() - began, 1),
            **_facts(built),
            "wrong": list(voice_wrong(name, built, shapes)),
        }
    taken = sum(facts["weight_bytes"] + sum(facts["activation_bytes"]) for facts in found.values())
    if taken > memory_plan.VOICE_BYTES:
        found[f"voice {GRAPHS[-1]}"]["wrong"].append(
            f"the three engines take {taken} bytes, the plan has {memory_plan.VOICE_BYTES}"
        )
    return found


def voice_profile(bounds: Sequence[str]) -> Bounds:
    """Shapes as Polygraphy reads them, `name:[1,2]` at least, best and most."""
    name = bounds[0].partition(":")[0]
    least, best, most = (tuple(map(int, re.findall(r"\d+", bound.partition(":")[2]))) for bound in bounds)
    return {name: (least, best, most)}


def voice_wrong(name: str, built: Built, shapes: tensorrt_voice.Shapes) -> Iterator[str]:
    """Sentences about tensors that are not those of VOICE_TENSORS."""
    expected = [
        (tensor, kind, tuple(shapes.flow_size if size is None else size for size in dims))
        for tensor, kind, dims in VOICE_TENSORS[name]
    ]
    tensors = [(tensor, *facts) for tensor, facts in (built.inputs | built.outputs).items()]
    if tensors != expected:
        yield f"tensors are {tensors}, must be {expected}"


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
