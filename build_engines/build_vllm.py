"""Builds engines whose LLM runs on vLLM: `make engines GPU=any`, `GPU=rtx` and `GPU=cpu LLM=vllm`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from af3.manifest import CPU_VLLM, ManifestError
from build_engines import cpu_plan, memory_plan, vllm_plan
from build_engines.elsewhere import describe_elsewhere, is_elsewhere
from build_engines.source import reach
from build_engines.source.checkpoint import Checkpoint, read_quantisation
from build_engines.source.packed import open_for_vllm, served_bytes
from build_engines.source.quantised import METHODS, Quantisation, usual
from build_engines.stage import run_placed
from build_engines.targets import any as any_gpu
from build_engines.targets import nvidia
from build_engines.voice import choose_voice
from serving.machine import doctor, doctor_vllm, gpu


def build(arguments: argparse.Namespace) -> None:
    device: any_gpu.Device = {"cpu": "cpu", "rtx": "rtx"}.get(arguments.target, "any")  # type: ignore[assignment]
    output = arguments.output or Path("engines") / (CPU_VLLM if device == "cpu" else device)
    elsewhere = is_elsewhere(arguments.checkpoint)
    quantisation = _quantisation(arguments)
    precision = any_gpu.precision_of(device, arguments.precision, quantisation)
    if elsewhere:
        _plan_vllm(arguments, device, precision, quantisation, None)  # before gigabytes are downloaded
        if arguments.dry_run:
            describe_elsewhere(arguments.checkpoint, output, any_gpu.SLOTS)
            _say_missing(device)
            return
    checkpoint = open_for_vllm(arguments.checkpoint)
    if not elsewhere:
        _plan_vllm(arguments, device, precision, quantisation, checkpoint)
    adapters = any_gpu.open_adapters(checkpoint, arguments.think, arguments.adapter)
    sources = any_gpu.Sources(checkpoint, adapters)
    placed = any_gpu.placed_stages(sources, device, output)
    if arguments.voice:
        placed.append((choose_voice.stage(arguments.voice), output))
    stamps = run_placed(placed, force=arguments.force, dry_run=arguments.dry_run, only=arguments.only)
    if arguments.dry_run:
        _say_missing(device)
        return
    if len(stamps) == len(placed):
        any_gpu.write_manifest(sources, device, precision, stamps, output)
        print(f"engines are in {output}")


def _quantisation(arguments: argparse.Namespace) -> Quantisation | None:
    """How the checkpoint is quantised; in a dry run of one that is not here, the usual way of PRECISION."""
    elsewhere = is_elsewhere(arguments.checkpoint)
    if elsewhere and arguments.checkpoint in reach.PUBLISHED:
        return None  # NVIDIA's are not, and nothing is downloaded before the plan fits
    if elsewhere and arguments.dry_run:
        named = next((method for method in METHODS if method == arguments.precision), None)
        return None if named is None else usual(named)
    return read_quantisation(arguments.checkpoint)


def _plan_vllm(
    arguments: argparse.Namespace,
    device: str,
    precision: str,
    quantisation: Quantisation | None,
    checkpoint: Checkpoint | None,
) -> None:
    """Print the memory plan for a CPU, or for this machine's GPU (common ones when it has none). Raises BuildError.

    checkpoint: None when it is not here; it then counts as full-size.
    """
    known = reach.published(arguments.checkpoint) if checkpoint is None else reach.of(checkpoint)
    geometry = memory_plan.published(known) if checkpoint is None else nvidia.geometry(checkpoint)
    weights = None
    if quantisation is not None:
        weights = (
            vllm_plan.llm_bytes(geometry, quantisation.bits_per_weight)
            if checkpoint is None
            else served_bytes(checkpoint)
        )
    if device == "cpu":
        print(cpu_plan.describe(geometry, known, precision, weights))
        return
    plan = partial(vllm_plan.plan, device, precision, known=known, geometry=geometry, llm_weights=weights)
    try:
        found = gpu.find()
    except ManifestError:
        print("no GPU here: what others would hold")
        for size in vllm_plan.USUAL_GPUS_BYTES:
            print(vllm_plan.describe(plan(gpu_memory=size)))
        return
    if device == "rtx":
        vllm_plan.require_rtx(found.identity.name, found.identity.compute_capability)
    vllm_plan.require_bf16(found.identity.name, found.identity.compute_capability)
    memory = plan(gpu_memory=found.memory_bytes)
    print(vllm_plan.describe(memory))
    vllm_plan.require_fit(memory)


def _say_missing(device: str) -> None:
    if device == "cpu":
        return
    missing = doctor_vllm.missing(device)
    if missing:
        print("missing here, in the order to get it:")
        print(doctor.report(missing))
