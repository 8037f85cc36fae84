"""The voice's ONNX files → TensorRT engines, by Polygraphy, each compared with ONNX Runtime's answer.

FP32, as on a CPU: a voice is small. None of these commands has run on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import VitsConfig

from af3.speech.engines.vits import PIECES
from af3.speech.engines.vits_interface import DECODER, FLOW, GRAPHS, TEXT
from build_engines.voice.export_voice import context_frames

MOST_CHARACTERS = (
    2048  # with blanks between them; a segment has 400 at most before its numbers are spelled out
)
MOST_FRAMES = 16384
ABSOLUTE, RELATIVE = "1e-2", "1e-2"  # TensorRT multiplies FP32 in TF32


@dataclass(frozen=True)
class Shapes:
    """What the shapes of a voice's graphs depend on."""

    flow_size: int
    context_frames: int

    @classmethod
    def of(cls, checkpoint: str) -> Shapes:
        """Of a folder; a checkpoint that is not here is taken to be of the size of facebook/mms-tts-eng."""
        here = Path(checkpoint).is_dir()
        config = VitsConfig.from_pretrained(checkpoint) if here else VitsConfig()
        return cls(config.flow_size, context_frames(config))

    def bounds(self, name: str) -> list[str]:
        """Least, best and most of a graph's input, as Polygraphy reads them."""
        most_decoded = PIECES[-1] + 2 * self.context_frames
        if name == TEXT:
            return [f"input_ids:[1,{length}]" for length in (1, 64, MOST_CHARACTERS)]
        lengths = {FLOW: (1, 256, MOST_FRAMES), DECODER: (1, most_decoded, most_decoded)}[name]
        return [f"latents:[1,{self.flow_size},{length}]" for length in lengths]


def reference_commands(onnx: Path, shapes: Shapes) -> list[list[str]]:
    """ONNX Runtime's answers to Polygraphy's seeded inputs, beside each graph."""
    return [
        ["polygraphy", "run", str(onnx / f"{name}.onnx"), "--model-type", "onnx", "--onnxrt"]
        + _inputs(name, shapes)
        + ["--save-outputs", str(onnx / f"{name}.json")]
        for name in GRAPHS
    ]


def engine_commands(onnx: Path, engines: Path, shapes: Shapes) -> list[list[str]]:
    """Each graph's engine, then its comparison with those answers."""
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
    """The best shape; characters from the beginning of the vocabulary, which every voice has."""
    ranges = "input_ids:[0,9]" if name == TEXT else "latents:[-1,1]"
    return ["--input-shapes", shapes.bounds(name)[1], "--val-range", ranges]
