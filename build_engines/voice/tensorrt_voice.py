"""Compiles the voice's ONNX files to TensorRT engines with Polygraphy, and compares each with ONNX Runtime.

FP32, as on a CPU: a voice is small. None of these commands has run on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import VitsConfig

from af3.speech.engines.vits import PIECES
from af3.speech.engines.vits_interface import DECODER, FLOW, GRAPHS, TEXT
from build_engines.voice.export_voice import context_frames

MOST_CHARACTERS = 2048  # including blanks; a segment has at most 400 before its numbers are spelled out
MOST_FRAMES = 16384
ABSOLUTE, RELATIVE = "1e-2", "1e-2"  # TensorRT multiplies FP32 in TF32


@dataclass(frozen=True)
class Shapes:
    """The sizes that a voice's graph shapes depend on."""

    flow_size: int
    context_frames: int

    @classmethod
    def of(cls, checkpoint: str) -> Shapes:
        """Read the sizes of a folder; a checkpoint that is not here gets those of facebook/mms-tts-eng."""
        here = Path(checkpoint).is_dir()
        config = VitsConfig.from_pretrained(checkpoint) if here else VitsConfig()
        return cls(config.flow_size, context_frames(config))

    def bounds(self, name: str) -> list[str]:
        """Minimum, optimum and maximum shapes of a graph's input, as Polygraphy's options."""
        most_decoded = PIECES[-1] + 2 * self.context_frames
        if name == TEXT:
            return [f"input_ids:[1,{length}]" for length in (1, 64, MOST_CHARACTERS)]
        lengths = {FLOW: (1, 256, MOST_FRAMES), DECODER: (1, most_decoded, most_decoded)}[name]
        return [f"latents:[1,{self.flow_size},{length}]" for length in lengths]


def reference_commands(onnx: Path, shapes: Shapes) -> list[list[str]]:
    """Commands that save ONNX Runtime's answers to Polygraphy's seeded inputs beside each graph."""
    return [
        ["polygraphy", "run", str(onnx / f"{name}.onnx"), "--model-type", "onnx", "--onnxrt"]
        + _inputs(name, shapes)
        + ["--save-outputs", str(onnx / f"{name}.json")]
        for name in GRAPHS
    ]


def engine_commands(onnx: Path, engines: Path, shapes: Shapes) -> list[list[str]]:
    """Commands that build each graph's engine, then compare it with those answers."""
    commands = []
    for name in GRAPHS:
        engine = str(engines / f"{name}.plan")
        convert = ["polygraphy", "convert", str(onnx / f"{name}.onnx"), "--model-type", "onnx"]
        convert += ["--convert-to", "trt"]
        for bound, shape in zip(("min", "opt", "max"), shapes.bounds(name), strict=True):
            convert += [f"--trt-{bound}-shapes", shape]
        compare = ["polygraphy", "run", engine, "--model-type", "engine", "--trt", *_inputs(name, shapes)]
        compare += ["--load-outputs", str(onnx / f"{name}.json"), "--atol", ABSOLUTE, "--rtol", RELATIVE]
        commands += [[*convert, "--output", engine], compare]
    return commands


def _inputs(name: str, shapes: Shapes) -> list[str]:
    """The optimum shape, and characters from the beginning of the vocabulary, which every voice has."""
    ranges = "input_ids:[0,9]" if name == TEXT else "latents:[-1,1]"
    return ["--input-shapes", shapes.bounds(name)[1], "--val-range", ranges]
