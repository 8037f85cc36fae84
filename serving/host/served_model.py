"""One line that says which model is served."""

from __future__ import annotations

from pathlib import PurePath

from af3.manifest import Manifest

DEMONSTRATIONS = {
    "af3-tiny": "a small model for demonstration: it answers questions like those of checkpoints/samples, and"
    " others badly; for real answers: make engines CHECKPOINT=nvidia/audio-flamingo-3-hf PRECISION=int4",
    "random-af3": "random weights, for tests: its answers mean nothing",
}


def served_model(manifest: Manifest) -> str:
    """The checkpoint by its name, the precision of its parts, and what a demonstration cannot do."""
    name = manifest.checkpoint.name
    precision = manifest.precision
    line = f"model     {name} (encoder {precision.audio_encoder}, LLM {precision.llm})"
    remark = DEMONSTRATIONS.get(PurePath(name).name)
    return line if remark is None else f"{line}:\n          {remark}"
