"""Do these engines belong on this GPU, with these libraries and these configs? Asked before the server
starts.

The backend would find most of it out by itself, minutes later and in the words of a C++ assertion; the
vocabulary it would not notice at all, and answer from wrong rows of the prompt table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from af3.manifest import GpuIdentity, Manifest, ManifestError


class Mismatch(NamedTuple):
    """One thing that the engines have and something else that is needed."""

    what: str
    engines_have: object
    needed: object
    needed_by: str


def require_match(folder: Path, found: GpuIdentity, call_batch: int) -> Manifest:
    """The manifest of the engines in `folder` when they can be served here.

    call_batch: `max_batch_size` of llm/configs/gpu.pbtxt. Raises ManifestError, in one sentence with both
    values and the command to run, for the first thing that does not match.
    """
    manifest = Manifest.read(folder)
    if manifest.gpu is None:
        raise ManifestError(
            f"{folder}: these engines are for {manifest.target}, the gpu configs serve engines built on a "
            "GPU; run `make engines` with the GPU= of this machine"
        )
    if found.tensorrt == "none":
        raise ManifestError(
            f"{folder}: there is no TensorRT beside this Python, so this is not the container that serves; "
            f"`make serve GPU={manifest.target}` starts it"
        )
    for mismatch in _mismatches(folder, manifest, manifest.gpu, found, call_batch):
        raise ManifestError(
            f"{folder}: {mismatch.what} of these engines is {mismatch.engines_have}, {mismatch.needed_by} "
            f"{mismatch.needed}; build them again on this machine: `make engines GPU={manifest.target}`"
        )
    return manifest


def _mismatches(
    folder: Path, manifest: Manifest, built: GpuIdentity, found: GpuIdentity, call_batch: int
) -> Iterator[Mismatch]:
    yield from _different(
        ("the GPU", built.name, found.name, "this machine has"),
        ("the compute capability", built.compute_capability, found.compute_capability, "this GPU has"),
        ("the TensorRT version", built.tensorrt, found.tensorrt, "this container has"),
        ("the TensorRT-LLM version", built.tensorrt_llm, found.tensorrt_llm, "this container has"),
    )
    limits = manifest.limits
    if call_batch > limits.max_batch_size:
        yield Mismatch("max_batch_size", limits.max_batch_size, call_batch, "llm/configs/gpu.pbtxt asks for")
    engine = json.loads((folder / "llm" / "config.json").read_text(encoding="utf-8"))
    yield from _engine_mismatches(manifest, engine)


def _engine_mismatches(manifest: Manifest, engine: Mapping[str, Any]) -> Iterator[Mismatch]:
    """Compare the limits that trtllm-build wrote beside the engine with those that `preprocess` enforces."""
    limits, built, model = manifest.limits, engine["build_config"], engine["pretrained_config"]
    rows = limits.max_audio_tokens * limits.max_batch_size
    said = "the manifest says"
    yield from _different(
        ("the LLM's max_batch_size", built["max_batch_size"], limits.max_batch_size, said),
        ("the LLM's max_seq_len", built["max_seq_len"], limits.max_sequence_tokens, said),
        ("the LLM's prompt table", built["max_prompt_embedding_table_size"], rows, said),
        ("the LLM's vocabulary", model["vocab_size"], manifest.model.vocab_size, said),
        ("the LLM's dtype", model["dtype"], "bfloat16", "the prompt table of audio_encoder has"),
    )


def _different(*rows: tuple[str, object, object, str]) -> Iterator[Mismatch]:
    return (Mismatch(*row) for row in rows if row[1] != row[2])
