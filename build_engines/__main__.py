"""Builds the engines of one target: python -m build_engines --target cpu --checkpoint FOLDER|HUB_ID."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from build_engines.elsewhere import describe_elsewhere, is_elsewhere
from build_engines.stage import BuildError
from build_engines.targets import TARGETS
from build_engines.targets.target import Target

if TYPE_CHECKING:
    from build_engines.tool_commands import Job

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def main() -> int:
    """Exit codes: 0 built or up to date, 1 failed with a message, 2 wrong usage, 130 interrupted."""
    arguments = _parser().parse_args()
    try:
        _build(arguments)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume at this stage", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m build_engines", description=__doc__.split(":")[0])
    parser.add_argument(
        "--target", choices=["cpu", "any", "rtx", *TARGETS], default="cpu", help="hardware to build for"
    )
    parser.add_argument(
        "--checkpoint", required=True, help="folder of an AF3 checkpoint in Hugging Face format, or a hub id"
    )
    parser.add_argument(
        "--precision",
        help="of the LLM's weights; cpu: fp32 (default), int4 (the encoder is int8 then), with vLLM bf16; "
        "any, rtx: bf16 (default), fp8; GPUs: fp8, bf16, int8, int4; with vLLM a checkpoint that is quantised keeps "
        "its own (awq, gptq, compressed-tensors)",
    )
    parser.add_argument(
        "--audio-seconds",
        type=int,
        help="longest audio of a request; less lets more requests run together (GPUs; default: the model's limit)",
    )
    parser.add_argument(
        "--llm",
        choices=["vllm"],
        help="serve the LLM with vLLM, on any GPU or on a CPU in an environment of its own; compiles nothing",
    )
    parser.add_argument(
        "--think",
        action="store_true",
        help="the checkpoint's think adapter: with vLLM per request, else merged into the weights (GPUs only)",
    )
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="with vLLM: a LoRA that requests select by NAME; may be repeated",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        default=Path("checkpoints/samples"),
        help="folder of clips to calibrate FP8 with, best 32 or more of your own (default: %(default)s)",
    )
    parser.add_argument(
        "--voice",
        help="the server's neural voice: kokoro or a VITS checkpoint; a folder or hub id of either",
    )
    parser.add_argument("--output", type=Path, help="folder to write (default: engines/TARGET)")
    parser.add_argument("--force", action="store_true", help="also build stages that are up to date")
    parser.add_argument("--dry-run", action="store_true", help="print what would be built and stop")
    parser.add_argument(
        "--only", metavar="STAGE", help="build only this stage, e.g. tokenizer, audio_encoder or llm"
    )
    return parser


def _build(arguments: argparse.Namespace) -> None:
    if arguments.llm == "vllm" or arguments.target in ("any", "rtx"):
        from build_engines.build_vllm import build

        build(arguments)
        return
    if arguments.adapter:
        raise BuildError("--adapter: adapters per request need vLLM; add --llm vllm")
    output = arguments.output or Path("engines") / arguments.target
    if arguments.target == "cpu":
        _build_cpu(arguments, output)
        return
    target = TARGETS[arguments.target]
    if arguments.precision:
        target = target.with_precision(arguments.precision)
    if arguments.dry_run:
        _describe_gpu(arguments, target, output.absolute())
    else:
        _build_gpu(arguments, target, output.absolute())


def _build_cpu(arguments: argparse.Namespace, output: Path) -> None:
    from build_engines import cpu_plan, memory_plan
    from build_engines.source import reach
    from build_engines.source.checkpoint import open_checkpoint
    from build_engines.stage import run
    from build_engines.targets import cpu, nvidia  # imports torch and Transformers, which take seconds

    known: tuple[cpu.Precision, ...] = get_args(cpu.Precision)
    precision = next((name for name in known if name == (arguments.precision or "fp32")), None)
    if precision is None:
        raise BuildError(f"PRECISION={arguments.precision}: target cpu supports {', '.join(known)}")
    if arguments.think:
        raise BuildError("THINK=1: the think adapter is merged into engines of a GPU only")
    if arguments.dry_run and is_elsewhere(arguments.checkpoint):
        describe_elsewhere(arguments.checkpoint, output, cpu.ROWS)
        hears = reach.published(arguments.checkpoint)
        print(cpu_plan.describe(memory_plan.published(hears), hears, precision))
        return
    source = open_checkpoint(arguments.checkpoint)
    stages = cpu.stages(source, precision)
    print(reach.describe(cpu.limits(source)))
    print(cpu_plan.describe(nvidia.geometry(source), reach.of(source), precision))
    if arguments.dry_run and arguments.voice and is_elsewhere(arguments.voice):
        print(f"voice: would be downloaded ({arguments.voice}) and built")
    elif arguments.voice:
        from build_engines.voice import choose_voice

        stages.append(choose_voice.stage(arguments.voice))
    stamps = run(stages, output, force=arguments.force, dry_run=arguments.dry_run, only=arguments.only)
    if arguments.dry_run:
        return
    left = [stage.name for stage in stages if stage.name not in stamps]
    if left:
        print(f"no manifest yet: {', '.join(left)} is not built or has other settings; run without --only")
        return
    cpu.write_manifest(source, precision, stamps, output)
    print(f"engines are in {output}")


def _job(arguments: argparse.Namespace, target: Target, output: Path) -> "Job":
    from build_engines import tool_commands, tools
    from build_engines.voice import kokoro_files, tensorrt_voice

    compiled = arguments.voice and not kokoro_files.is_kokoro(arguments.voice)
    shapes = tensorrt_voice.Shapes.of(arguments.voice) if compiled else None
    return tool_commands.Job(target, output, tools.here(), tools.find(output), shapes)


def _describe_gpu(arguments: argparse.Namespace, target: Target, output: Path) -> None:
    """Print memory plan, sizes and commands. Downloads nothing; a checkpoint that is not here counts as full-size."""
    from build_engines import memory_plan, tool_commands, tools
    from build_engines.llm import calibration
    from build_engines.source import reach
    from build_engines.source.checkpoint import open_checkpoint
    from build_engines.source.hub_checkpoint import LICENCE_NOTICE
    from build_engines.targets import nvidia
    from serving.machine import doctor

    known = reach.published(arguments.checkpoint)
    geometry = memory_plan.published(known)
    if not is_elsewhere(arguments.checkpoint):
        source = open_checkpoint(arguments.checkpoint)
        geometry, known = nvidia.geometry(source), reach.of(source)
    job = nvidia.hearing(_job(arguments, target, output), known, arguments.audio_seconds)
    print(reach.describe(job.target.limits))
    if is_elsewhere(arguments.checkpoint):
        gigabytes = (geometry.encoder_weights + geometry.llm_weights) * memory_plan.BF16_BYTES / 1e9
        print(LICENCE_NOTICE.format(name=arguments.checkpoint))
        print(f"to download: checkpoint {gigabytes:.1f} GB, image about {tools.IMAGE_GB} GB, once")
    memory = memory_plan.plan(job.target, geometry, compiled_voice=job.voice is not None)
    print(memory_plan.describe(memory))
    memory_plan.require_fit(memory)
    print(tool_commands.describe(job, geometry))
    missing = doctor.missing_to_build(target.name)
    if target.llm_precision == "fp8":
        missing += calibration.missing_clips(arguments.calibration, geometry.llm_weights)
    if missing:
        print("missing here, in the order to get it:")
        print(doctor.report(missing))


def _build_gpu(arguments: argparse.Namespace, target: Target, output: Path) -> None:
    from build_engines import memory_plan
    from build_engines.llm import calibration
    from build_engines.source import reach, think
    from build_engines.source.checkpoint import open_checkpoint
    from build_engines.targets import nvidia

    output.mkdir(parents=True, exist_ok=True)
    job = _job(arguments, target, output)
    found = nvidia.find_gpu(job)  # before gigabytes are downloaded
    clips = calibration.find_clips(arguments.calibration) if job.target.llm_precision == "fp8" else []
    if clips and is_elsewhere(arguments.checkpoint):  # before gigabytes are downloaded
        calibration.require_enough(clips, memory_plan.AUDIO_FLAMINGO_3.llm_weights)
    source = open_checkpoint(arguments.checkpoint)
    job = nvidia.hearing(job, reach.of(source), arguments.audio_seconds)
    geometry = nvidia.geometry(source)
    if clips:
        calibration.require_enough(clips, geometry.llm_weights)
    memory = memory_plan.plan(job.target, geometry, found.memory_bytes, compiled_voice=job.voice is not None)
    print(memory_plan.describe(memory))
    memory_plan.require_fit(memory)
    adapter = think.open_adapter(source) if arguments.think else None
    sources = nvidia.Sources(source, tuple(clips), adapter, arguments.voice)
    stamps = nvidia.build(job, sources, force=arguments.force, only=arguments.only)
    if set(nvidia.SERVED) <= set(stamps):
        nvidia.write_manifest(job, sources, stamps, found)
        print(f"engines are in {output}")


if __name__ == "__main__":
    sys.exit(main())
