"""Target `any`: engines for vLLM and ONNX Runtime on any NVIDIA GPU, or on a CPU.

Nothing is compiled: the LLM's weights are split off the checkpoint. vLLM quantises them when it loads them, or takes
them as they are quantised already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from af3.manifest import ADAPTERS_FOLDER, CheckpointIdentity, Manifest
from af3.manifest import Precision as Precisions
from af3.speech.built_voice import built_licence, built_voice
from build_engines.llm import lora, qwen
from build_engines.source import think, tokenizer_files
from build_engines.source.checkpoint import Checkpoint
from build_engines.source.quantised import METHODS, Quantisation
from build_engines.source.think import Adapter
from build_engines.stage import BuildError, Stage, Stamp
from build_engines.targets import cpu, rtx
from serving.machine.gpu import VLLM_LINK, link_engines

Device = Literal["cpu", "any", "rtx"]
Precision = Literal["fp32", "bf16", "fp8", "awq", "gptq", "compressed-tensors"]
# Of a checkpoint that is not quantised. The first is the default.
PRECISIONS: Mapping[Device, tuple[Precision, ...]] = {
    "cpu": ("fp32", "bf16"),
    "any": ("bf16", "fp8"),
    "rtx": ("bf16", "fp8"),
}
CPU_BITS = 4  # vLLM's only kernel for packed weights on a CPU; it needs AVX-512 (vllm-project/vllm#55613)
SLOTS = 64  # as in llm/configs/vllm.pbtxt


@dataclass(frozen=True)
class Sources:
    """What engines are built from. adapters: by the name that requests use."""

    checkpoint: Checkpoint
    adapters: Mapping[str, Adapter]


def precision_of(device: Device, wanted: str | None, quantisation: Quantisation | None) -> Precision:
    """The precision of the LLM's weights. quantisation: the checkpoint's own.

    Raises BuildError for one that vLLM does not support on the device, or that the checkpoint does not have.
    """
    if quantisation is not None:
        return _own_precision(device, wanted, quantisation)
    known = PRECISIONS[device]
    if wanted is None:
        return known[0]
    if wanted in METHODS:
        raise BuildError(
            f"PRECISION={wanted}: the checkpoint is not quantised, and make engines does not quantise it so; give one"
            f" that is, or a precision that vLLM makes on {_where(device)}: {', '.join(known)}"
        )
    found = next((name for name in known if name == wanted), None)
    if found is None:
        raise BuildError(f"PRECISION={wanted}: vLLM on {_where(device)} knows {', '.join(known)}")
    return found


def _own_precision(device: Device, wanted: str | None, quantisation: Quantisation) -> Precision:
    if wanted not in (None, quantisation.method):
        raise BuildError(
            f"PRECISION={wanted}: the checkpoint's LLM is quantised already ({quantisation}) and is served as it is;"
            " leave PRECISION out, or give the checkpoint as NVIDIA published it"
        )
    if device == "cpu" and quantisation.bits != CPU_BITS:
        raise BuildError(
            f"{quantisation}: vLLM on a CPU multiplies {CPU_BITS} bits alone; serve it with GPU=any"
        )
    if device == "cpu" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        raise BuildError(
            f"{quantisation}: vLLM multiplies packed weights on a CPU with AVX-512 alone, which this one lacks; give"
            " the checkpoint as NVIDIA published it"
        )
    return quantisation.method


def open_adapters(checkpoint: Checkpoint, with_think: bool, given: list[str]) -> dict[str, Adapter]:
    """Open the checkpoint's think adapter if wanted, and each NAME=FOLDER. Raises BuildError."""
    adapters = {think.FOLDER: think.open_adapter(checkpoint)} if with_think else {}
    for pair in given:
        name, _, folder = pair.partition("=")
        if not name.isidentifier() or not folder or name in adapters:
            raise BuildError(
                f"--adapter {pair}: must be NAME=FOLDER, where NAME is a word that is not used twice"
            )
        adapters[name] = think.read_adapter(Path(folder), checkpoint)
    return adapters


def placed_stages(sources: Sources, device: Device, output: Path) -> list[tuple[Stage, Path]]:
    """All stages of a device, each with its folder."""
    in_output = [(stage, output) for stage in stages(sources)]
    if device != "rtx":
        return in_output
    compiled = rtx.encoder_stages(sources.checkpoint, output)
    return [*compiled, *(one for one in in_output if one[0].name != "audio_encoder")]


def stages(sources: Sources) -> list[Stage]:
    """The stages tokenizer, encoder, LLM and adapters; each needs only the checkpoint."""
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
    """Write `manifest.json` from all stages' stamps, and the link through which the configs find these engines.

    A voice that was built earlier stays in it.
    """
    checkpoint = sources.checkpoint
    stamps = stamps | cpu.voice_stamp(output)
    served = {name: stamp for name, stamp in stamps.items() if (output / name).is_dir()}
    Manifest(
        target=device,
        checkpoint=CheckpointIdentity(name=checkpoint.name, sha256=checkpoint.sha256),
        precision=Precisions(audio_encoder="bf16" if device == "rtx" else "fp32", llm=precision),
        limits=cpu.limits(checkpoint).model_copy(update={"max_batch_size": SLOTS}),
        model=tokenizer_files.model_facts(checkpoint),
        tools={name: version for stamp in stamps.values() for name, version in stamp.versions.items()},
        files={
            f"{name}/{path}": sha256 for name, stamp in served.items() for path, sha256 in stamp.files.items()
        },
        verification={name: dict(stamp.figures) for name, stamp in stamps.items() if stamp.figures},
        voice=built_voice(output / cpu.VOICE_FOLDER),
        voice_licence=built_licence(output / cpu.VOICE_FOLDER),
        adapters=tuple(sorted(sources.adapters)),
    ).write(output)
    link_engines(output, VLLM_LINK)


def _where(device: Device) -> str:
    return "a CPU" if device == "cpu" else "a GPU"
