"""Target `any`: what vLLM and ONNX Runtime serve on any NVIDIA GPU, and the same files for a CPU.

Nothing is compiled: the LLM is the checkpoint's own weights, split off; vLLM quantises them when it loads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from af3.manifest import ADAPTERS_FOLDER, CheckpointIdentity, Manifest
from af3.manifest import Precision as Precisions
from af3.speech.catalogue import built_licence, built_voice
from build_engines.llm import lora, qwen
from build_engines.memory_plan import Geometry
from build_engines.source import reach, think, tokenizer_files
from build_engines.source.checkpoint import Checkpoint
from build_engines.source.reach import Reach
from build_engines.source.think import Adapter
from build_engines.stage import BuildError, Stage, Stamp
from build_engines.targets import cpu
from serving.machine.gpu import VLLM_LINK, link_engines

Device = Literal["cpu", "any"]
Precision = Literal["fp32", "bf16", "fp8"]
# The first is the default.
PRECISIONS: Mapping[Device, tuple[Precision, ...]] = {"cpu": ("fp32", "bf16"), "any": ("bf16", "fp8")}
SLOTS = 64  # of llm/configs/vllm.pbtxt
GPU_MEMORY_FRACTION = 0.8  # there too
EXAMPLES_GB = (24, 48, 80)
BYTES_OF: Mapping[Precision, int] = {"fp32": 4, "bf16": 2, "fp8": 1}


@dataclass(frozen=True)
class Sources:
    """What engines are built from; `adapters` by the name that a request gives."""

    checkpoint: Checkpoint
    adapters: Mapping[str, Adapter]


def precision_of(device: Device, wanted: str | None) -> Precision:
    """The precision of the LLM's weights. Raises BuildError for one that vLLM does not have there."""
    known = PRECISIONS[device]
    if wanted is None:
        return known[0]
    found = next((name for name in known if name == wanted), None)
    if found is None:
        raise BuildError(f"PRECISION={wanted}: vLLM on {_where(device)} knows {', '.join(known)}")
    return found


def open_adapters(checkpoint: Checkpoint, with_think: bool, given: list[str]) -> dict[str, Adapter]:
    """The checkpoint's own where asked for, and those of NAME=FOLDER. Raises BuildError."""
    adapters = {think.FOLDER: think.open_adapter(checkpoint)} if with_think else {}
    for pair in given:
        name, _, folder = pair.partition("=")
        if not name.isidentifier() or not folder or name in adapters:
            raise BuildError(f"--adapter {pair}: must be NAME=FOLDER, NAME a word and given once")
        adapters[name] = think.read_adapter(Path(folder), checkpoint)
    return adapters


def stages(sources: Sources) -> list[Stage]:
    """Tokenizer, encoder, LLM and adapters, each built from the checkpoint alone."""
    checkpoint = sources.checkpoint
    shared = [stage for stage in cpu.stages(checkpoint, "fp32") if stage.name != "llm"]
    split = Stage(
        "llm",
        build=partial(qwen.build, checkpoint, None),
        inputs={"checkpoint": checkpoint.sha256},
        code=(qwen,),
        packages=("safetensors", "torch"),
    )
    adapters = Stage(
        ADAPTERS_FOLDER,
        build=partial(lora.build, checkpoint, sources.adapters),
        inputs={"checkpoint": checkpoint.sha256}
        | {name: adapter.sha256 for name, adapter in sources.adapters.items()},
        code=(lora, think),
        packages=("safetensors", "torch"),
    )
    return [*shared, split, *([adapters] if sources.adapters else [])]


def write_manifest(
    sources: Sources, device: Device, precision: Precision, stamps: dict[str, Stamp], output: Path
) -> None:
    """`manifest.json` from the stamps of all stages, and the link by which the configs find these engines.

    A voice that was built before stays in it.
    """
    checkpoint = sources.checkpoint
    stamps = stamps | cpu.voice_stamp(output)
    Manifest(
        target=device,
        checkpoint=CheckpointIdentity(name=checkpoint.name, sha256=checkpoint.sha256),
        precision=Precisions(audio_encoder="fp32", llm=precision),
        limits=cpu.limits(checkpoint).model_copy(update={"max_batch_size": SLOTS}),
        model=tokenizer_files.model_facts(checkpoint),
        tools={name: version for stamp in stamps.values() for name, version in stamp.versions.items()},
        files={
            f"{name}/{path}": sha256 for name, stamp in stamps.items() for path, sha256 in stamp.files.items()
        },
        verification={name: dict(stamp.figures) for name, stamp in stamps.items() if stamp.figures},
        voice=built_voice(output / cpu.VOICE_FOLDER),
        voice_licence=built_licence(output / cpu.VOICE_FOLDER),
        adapters=tuple(sorted(sources.adapters)),
    ).write(output)
    link_engines(output, VLLM_LINK)


def describe(known: Reach, geometry: Geometry, device: Device, precision: Precision) -> str:
    """Limits, and on a GPU how many of the longest requests its KV cache holds at once; the others wait."""
    limits = known.limits(SLOTS)
    lines = [reach.describe(limits)]
    if device == "any":
        weights = geometry.llm_weights * BYTES_OF[precision]
        for gigabytes in EXAMPLES_GB:
            tokens = (
                max(0, int(gigabytes * 1e9 * GPU_MEMORY_FRACTION - weights)) // geometry.kv_bytes_per_token
            )
            short = 30 * reach.AUDIO_TOKENS_PER_SECOND + known.answer_tokens
            held = [min(SLOTS, tokens // size) for size in (short, limits.max_sequence_tokens)]
            lines.append(
                f"  {gigabytes} GB: the KV cache holds {held[0]} requests of 30 s, {held[1]} of the longest"
                + ("; choose PRECISION=fp8 or a larger GPU" if not held[1] else "")
            )
    return "\n".join(lines)


def _where(device: Device) -> str:
    return "a CPU" if device == "cpu" else "a GPU"
