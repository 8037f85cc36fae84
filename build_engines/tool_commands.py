"""The commands of a GPU build by stage: a dry run prints them, the stages run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from af3.speech.built_voice import VOICE_FOLDER
from build_engines.encoder import tensorrt_build
from build_engines.llm import calibration, fp8, trtllm
from build_engines.memory_plan import BF16_BYTES, FP32_BYTES, Geometry
from build_engines.targets.target import BITS_PER_WEIGHT, Target
from build_engines.tools import Tools
from build_engines.voice import tensorrt_voice

PARTS = "parts"
VOICE_ONNX = "voice_onnx"
VOICE_BYTES = 1 << 28  # upper bound for each voice stage
TIMING = (
    "timing"  # timing caches outlive the stages that fill them: the next build takes minutes, not an hour
)


@dataclass(frozen=True)
class Job:
    """The target of a build, its output folder, and the tools of this environment and of the container."""

    target: Target
    output: Path  # absolute
    local: Tools
    container: Tools
    voice: tensorrt_voice.Shapes | None = None  # without it the server has only its offline voices
    # The checkpoint has RoTE, so the encoder needs each window's index.
    rotates_by_time: bool = False

    def part(self, name: str) -> Path:
        return self.output / PARTS / name

    def timing_cache(self, name: str) -> Path:
        return self.output / TIMING / f"{name}.cache"


@dataclass(frozen=True)
class Step:
    """The commands of one stage, and the tools that run them."""

    tools: Tools
    commands: list[list[str]]

    def run(self, folder: Path) -> None:
        """Run all commands; they write to `folder`. Raises BuildError."""
        for words in self.commands:
            self.tools.run(words, folder)


def reference(job: Job, folder: Path) -> Step:
    """Save the FP32 encoder's answers on ONNX Runtime, one file per profile."""
    source = job.part("encoder_onnx") / "model.onnx"
    runs = [
        tensorrt_build.reference_command(
            source, profile, folder / f"{profile.name}.json", job.rotates_by_time
        )
        for profile in tensorrt_build.profiles(job.target)
    ]
    return Step(job.local, runs)


def encoder(job: Job, folder: Path) -> Step:
    """Build the encoder's engine, then compare it with those answers, one run per profile."""
    half, engine = job.part("encoder_half"), folder / "model.plan"
    convert = tensorrt_build.convert_command(
        half / "model.onnx", engine, job.target, job.timing_cache("audio_encoder"), job.rotates_by_time
    )
    compare = [
        tensorrt_build.compare_command(
            engine, index, profile, half / f"{profile.name}.json", job.rotates_by_time
        )
        for index, profile in enumerate(tensorrt_build.profiles(job.target))
    ]
    return Step(job.container, [convert, *compare])


def quantise(job: Job, folder: Path) -> Step:
    """Write the TensorRT-LLM checkpoint when it is calibrated; BF16 and INT8 need no command."""
    target, samples = job.target, job.part("calibration")
    commands = []
    if target.llm_precision == "fp8":
        positions = target.limits.max_sequence_tokens
        commands = [fp8.command(job.part("qwen"), samples / calibration.FILE, folder, positions)]
    if target.llm_precision == "int4":
        commands = [trtllm.quantize_command(job.part("qwen"), samples, folder, seed=0)]
    return Step(job.container, commands)


def llm(job: Job, folder: Path) -> Step:
    """The LLM's engine."""
    checkpoint, cache = job.part("trtllm_checkpoint"), job.timing_cache("llm")
    return Step(job.container, [trtllm.build_command(job.target, checkpoint, folder, cache)])


def voice_reference(job: Job, folder: Path) -> Step:
    """Save ONNX Runtime's answers beside the voice's graphs in `folder`."""
    assert job.voice is not None
    return Step(job.local, tensorrt_voice.reference_commands(folder, job.voice))


def voice(job: Job, folder: Path) -> Step:
    """Build the voice's engines and compare each with those answers."""
    assert job.voice is not None
    return Step(job.container, tensorrt_voice.engine_commands(job.part(VOICE_ONNX), folder, job.voice))


def disk_bytes(job: Job, geometry: Geometry) -> dict[str, int]:
    """Size of every stage's result from its weights; the size of calibration samples is an estimate."""
    target = job.target
    bits = BITS_PER_WEIGHT[target.llm_precision]
    split = geometry.llm_weights * BF16_BYTES
    engine = geometry.quantised_weights * bits // 8 + geometry.bf16_weights * BF16_BYTES
    samples = calibration.CLIPS_WANTED * calibration.MOST_WINDOWS * 750 * geometry.hidden_size * BF16_BYTES
    spoken = dict.fromkeys((VOICE_ONNX, VOICE_FOLDER), VOICE_BYTES) if job.voice else {}
    return spoken | {
        "tokenizer": 1 << 24,
        "encoder_onnx": geometry.encoder_weights * FP32_BYTES,
        "encoder_half": geometry.encoder_weights * BF16_BYTES,
        "qwen": split,
        "calibration": samples if target.llm_precision == "fp8" else 0,
        "trtllm_checkpoint": split if target.llm_precision == "int8" else engine,
        "audio_encoder": geometry.encoder_weights * BF16_BYTES,
        "llm": engine,
    }


def describe(job: Job, geometry: Geometry) -> str:
    """Describe every stage: folder, size on disk and commands."""
    placed: dict[str, tuple[Path, Callable[[Job, Path], Step] | None]] = {
        "tokenizer": (job.output, None),
        "encoder_onnx": (job.output / PARTS, None),
        "encoder_half": (job.output / PARTS, reference),
        "qwen": (job.output / PARTS, None),
        "calibration": (job.output / PARTS, None),
        "trtllm_checkpoint": (job.output / PARTS, quantise),
        "audio_encoder": (job.output, encoder),
        "llm": (job.output, llm),
    }
    if job.voice is not None:
        placed[VOICE_ONNX] = (job.output / PARTS, voice_reference)
        placed[VOICE_FOLDER] = (job.output, voice)
    sizes = disk_bytes(job, geometry)
    lines = [f"stages, {sum(sizes.values()) / 1e9:.1f} GB on disk"]
    for name, (parent, step_of) in placed.items():
        lines.append(f"{name}: {parent / name}, {sizes[name] / 1e9:.2f} GB")
        if step_of is not None:
            step = step_of(job, parent / name)
            lines += [f"  $ {' '.join(step.tools.command(words))}" for words in step.commands]
    return "\n".join(lines)
