"""Builds TensorRT and TensorRT-LLM engines for the GPU targets.

Stages in `OUTPUT/parts/` need no GPU and run in this environment. The stages that are served run the pinned
container's tools on the parts; the container has another Transformers version. A killed build resumes at the stage
that was running.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from safetensors import SafetensorError
from transformers import MusicFlamingoConfig
from transformers.models.musicflamingo.modeling_musicflamingo import MusicFlamingoRotaryEmbedding

import af3.encoder.tensorrt_encoder
import af3.speech.engines.vits
from af3.manifest import CheckpointIdentity, Manifest
from af3.manifest import Precision as Precisions
from af3.speech.built_voice import SETTINGS_FILE, VOICE_FOLDER, built_licence, built_voice
from build_engines import tool_commands
from build_engines.encoder import encoder_probe, tensorrt_build
from build_engines.encoder.export_encoder import RaggedEncoder
from build_engines.llm import calibration, fp8, qwen, trtllm, trtllm_checkpoint
from build_engines.llm.decoder_graph import Shape
from build_engines.memory_plan import Geometry
from build_engines.source import tokenizer_files
from build_engines.source.checkpoint import Checkpoint
from build_engines.source.reach import Reach
from build_engines.source.think import Adapter
from build_engines.stage import BuildError, Figures, Stage, Stamp, hash_file, is_current, run
from build_engines.targets import cpu
from build_engines.tool_commands import PARTS, TIMING, VOICE_ONNX, Job, Step
from build_engines.voice import choose_voice, export_voice, kokoro_files, tensorrt_voice
from serving.machine.gpu import IMAGE, FoundGpu, link_engines

SERVED = ("tokenizer", "audio_encoder", "llm")


@dataclass(frozen=True)
class Sources:
    """What engines are built from. clips: calibrate FP8; adapter: merged into the LLM; voice: Kokoro or a VITS
    checkpoint, whose shapes are in `Job.voice`.
    """

    checkpoint: Checkpoint
    clips: tuple[Path, ...] = ()
    adapter: Adapter | None = None
    voice: str | None = None


def geometry(checkpoint: Checkpoint) -> Geometry:
    """Read a checkpoint's sizes for the memory plan."""
    shape, tower = Shape.of(checkpoint.text_config), checkpoint.audio_config
    return Geometry(
        hidden_size=shape.hidden,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.ffn,
        vocab_size=shape.vocabulary,
        encoder_hidden_size=tower.hidden_size,
        encoder_layers=tower.num_hidden_layers,
        encoder_heads=tower.num_attention_heads,
        encoder_intermediate_size=tower.intermediate_size,
        **_rotation(checkpoint),
    )


def _rotation(checkpoint: Checkpoint) -> dict[str, int]:
    if not isinstance(checkpoint.config, MusicFlamingoConfig):
        return {}
    angles = 2 * len(MusicFlamingoRotaryEmbedding(checkpoint.config).inv_freq)
    return {"rotation_angles": angles, "rotation_windows": checkpoint.windows_per_clip}


def hearing(job: Job, reach: Reach, seconds: int | None) -> Job:
    """The job for a checkpoint with these limits. seconds: longest audio of a request; None: the model's limit."""
    return replace(job, target=job.target.hearing(reach, seconds), rotates_by_time=reach.rotates_by_time)


def find_gpu(job: Job) -> FoundGpu:
    """Find this machine's GPU as the container sees it. Raises BuildError when it is not the target's."""
    said = job.container.output(["python3", "-m", "serving.machine.gpu"])
    found = FoundGpu.model_validate_json(said.splitlines()[-1])  # after the container's banner
    gpu, identity = job.target.gpu.known, found.identity
    capability = ".".join(map(str, gpu.compute_capability))
    if not gpu.is_one(identity.name) or identity.compute_capability != capability:
        raise BuildError(
            f"GPU={job.target.name} is for an NVIDIA {gpu.name_part} (compute capability {capability}), this "
            f"machine has an {identity.name} ({identity.compute_capability}); build for that one, or there"
        )
    return found


def build(job: Job, sources: Sources, *, force: bool = False, only: str | None = None) -> dict[str, Stamp]:
    """Bring the stages up to date and return their stamps. Raises BuildError."""
    placed = stages(job, sources)
    names = [stage.name for stage, _ in placed]
    if only not in (None, *names):
        raise BuildError(f"--only {only}: there is no such stage; the stages are {', '.join(names)}")
    (job.output / TIMING).mkdir(parents=True, exist_ok=True)
    wanted = [(stage, folder) for stage, folder in placed if only in (None, stage.name)]
    _require_disk(job, sources, wanted, force)
    stamps: dict[str, Stamp] = {}
    for stage, folder in wanted:
        try:
            stamps |= run([stage], folder, force=force)
        except (OSError, SafetensorError) as error:
            if not _is_full_disk(error):
                raise
            raise BuildError(
                f"{stage.name}: the disk of {job.output} is full; make room and run the same command again"
            ) from error
    return stamps


def stages(job: Job, sources: Sources) -> list[tuple[Stage, Path]]:
    """All stages in build order, each with its folder."""
    checkpoint, target = sources.checkpoint, job.target
    parts = job.output / PARTS
    words = next(stage for stage in cpu.stages(checkpoint, "fp32") if stage.name == "tokenizer")
    onnx = replace(cpu.audio_encoder_stage(checkpoint, RaggedEncoder), name="encoder_onnx")
    half = Stage(
        "encoder_half",
        build=partial(_build_half_encoder, job),
        inputs={"windows": target.encoder_windows},
        after=(onnx,),
        code=(tensorrt_build, encoder_probe),
        packages=("ml_dtypes", "onnx", "onnxruntime", "polygraphy"),
    )
    split = Stage(
        "qwen",
        build=partial(qwen.build, checkpoint, sources.adapter),
        inputs={
            "checkpoint": checkpoint.sha256,
            "think": sources.adapter.sha256 if sources.adapter else None,
        },
        code=(qwen,),
        packages=("safetensors", "torch"),
    )
    heard = Stage(
        "calibration",
        build=partial(_build_calibration, job, sources),
        inputs={"precision": target.llm_precision, "clips": [hash_file(clip) for clip in sources.clips]},
        after=(onnx, words),
        code=(calibration,),
        packages=("soundfile", "soxr", "tokenizers"),
    )
    hardware = {"image": IMAGE, "compute_capability": list(target.gpu.known.compute_capability)}
    weights = Stage(
        "trtllm_checkpoint",
        build=partial(_build_trtllm_checkpoint, job),
        inputs=hardware | {"precision": target.llm_precision, "positions": target.limits.max_sequence_tokens},
        after=(split, heard),
        code=(fp8, trtllm, trtllm_checkpoint),
    )
    encoder = Stage(
        "audio_encoder",
        build=partial(_run, partial(tool_commands.encoder, job), "model.plan"),
        inputs=hardware,
        after=(half,),
        code=(af3.encoder.tensorrt_encoder, encoder_probe, tensorrt_build),
    )
    engine = Stage(
        "llm",
        build=partial(_run, partial(tool_commands.llm, job), "rank0.engine"),
        inputs=hardware | {"limits": target.limits.model_dump(), "max_num_tokens": target.max_num_tokens},
        after=(weights,),
        code=(trtllm,),
    )
    return [
        (words, job.output),
        *((stage, parts) for stage in (onnx, half, split, heard, weights)),
        (encoder, job.output),
        (engine, job.output),
        *(_voice_stages(job, sources.voice) if sources.voice else ()),
    ]


def _voice_stages(job: Job, checkpoint: str) -> list[tuple[Stage, Path]]:
    """The stages of a voice: ONNX Runtime serves Kokoro everywhere; a VITS voice is compiled."""
    if kokoro_files.is_kokoro(checkpoint):
        return [(choose_voice.stage(checkpoint), job.output)]
    exported = export_voice.stage(checkpoint)
    onnx = replace(
        exported,
        name=VOICE_ONNX,
        build=partial(_build_voice_onnx, job, exported.build),
        code=(*exported.code, tensorrt_voice),
    )
    engines = Stage(
        VOICE_FOLDER,
        build=partial(_build_voice, job),
        inputs={"image": IMAGE, "compute_capability": list(job.target.gpu.known.compute_capability)},
        after=(onnx,),
        code=(tensorrt_voice, af3.speech.engines.vits),
    )
    return [(onnx, job.output / PARTS), (engines, job.output)]


def write_manifest(job: Job, sources: Sources, stamps: dict[str, Stamp], found: FoundGpu) -> None:
    """Write `manifest.json`, and the link through which the configs find these engines."""
    checkpoint, target = sources.checkpoint, job.target
    stamps = stamps | cpu.voice_stamp(job.output)
    served = [name for name in (*SERVED, VOICE_FOLDER) if name in stamps]
    Manifest(
        target=target.name,
        checkpoint=CheckpointIdentity(name=checkpoint.name, sha256=checkpoint.sha256),
        precision=Precisions(audio_encoder="bf16", llm=target.llm_precision),
        limits=target.limits,
        model=tokenizer_files.model_facts(checkpoint),
        tools={name: version for stamp in stamps.values() for name, version in stamp.versions.items()},
        files={f"{name}/{path}": sha256 for name in served for path, sha256 in stamps[name].files.items()},
        verification={name: dict(stamp.figures) for name, stamp in stamps.items() if stamp.figures},
        voice=built_voice(job.output / VOICE_FOLDER),
        voice_licence=built_licence(job.output / VOICE_FOLDER),
        gpu=found.identity.model_copy(update={"image": IMAGE}),
    ).write(job.output)
    link_engines(job.output)


def _require_disk(job: Job, sources: Sources, wanted: list[tuple[Stage, Path]], force: bool) -> None:
    """Raise BuildError, before anything is built, when the disk has too little room for the stages."""
    sizes = tool_commands.disk_bytes(job, geometry(sources.checkpoint))
    needed = sum(sizes[stage.name] for stage, folder in wanted if force or not is_current(stage, folder))
    free = shutil.disk_usage(job.output).free
    if needed > free:
        raise BuildError(
            f"{job.output}: the stages to build take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "make room, or give --output a folder on another disk"
        )


def _is_full_disk(error: Exception) -> bool:
    """Whether an error means a full disk; safetensors reports it only as text."""
    return (isinstance(error, OSError) and error.errno == errno.ENOSPC) or f"os error {errno.ENOSPC})" in str(
        error
    )


def _build_half_encoder(job: Job, folder: Path) -> Figures:
    """Write the graph in mixed precision, and the FP32 graph's answers for the comparison on the GPU."""
    source = job.part("encoder_onnx") / "model.onnx"
    tensorrt_build.write_mixed_precision(source, folder / "model.onnx")
    tool_commands.reference(job, folder).run(folder)
    return {}


def _build_voice_onnx(job: Job, export: Callable[[Path], Figures], folder: Path) -> Figures:
    """Write the ONNX graphs, and ONNX Runtime's answers for the comparison on the GPU."""
    figures = export(folder)
    tool_commands.voice_reference(job, folder).run(folder)
    return figures


def _build_voice(job: Job, folder: Path) -> Figures:
    shutil.copy(job.part(VOICE_ONNX) / SETTINGS_FILE, folder)
    return _run(partial(tool_commands.voice, job), "decoder.plan", folder)


def _build_calibration(job: Job, sources: Sources, folder: Path) -> Figures:
    """Write samples for FP8 or texts for INT4; other precisions need no calibration."""
    if job.target.llm_precision == "fp8":
        facts = tokenizer_files.model_facts(sources.checkpoint)
        encoder, words = job.part("encoder_onnx"), job.output / "tokenizer"
        return calibration.build(sources.clips, encoder, words, facts, job.target.limits, folder)
    if job.target.llm_precision == "int4":
        return calibration.build_texts(folder)
    return {}


def _build_trtllm_checkpoint(job: Job, folder: Path) -> Figures:
    step = tool_commands.quantise(job, folder)
    if not step.commands:
        positions = job.target.limits.max_sequence_tokens
        trtllm_checkpoint.write(job.part("qwen"), folder, job.target.llm_precision, positions, {})
        return {}
    _run(lambda _: step, "rank0.safetensors", folder)
    figures = folder / fp8.FIGURES
    return json.loads(figures.read_text()) if figures.exists() else {}


def _run(step_of: Callable[[Path], Step], result: str, folder: Path) -> Figures:
    """Run a stage's commands; they must write `result`."""
    step = step_of(folder)
    step.run(folder)
    if not (folder / result).exists():
        program = step.commands[0][0]
        raise BuildError(f"{program} succeeded but did not write {result}; see its output above")
    return {}
