"""Writes LoRA adapters for vLLM, which applies one per request, in PEFT's format for a Qwen2ForCausalLM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from build_engines.source.checkpoint import Checkpoint
from build_engines.source.packed import linear_shape
from build_engines.source.think import CONFIG, LLM_PREFIX, WEIGHTS, Adapter
from build_engines.stage import BuildError, Figures

PREFIX = "base_model.model.model."
LARGEST_RANK = 512  # that vLLM supports


def build(checkpoint: Checkpoint, adapters: Mapping[str, Adapter], folder: Path) -> Figures:
    """Write `folder/NAME/` for each adapter. Raises BuildError for one that vLLM cannot apply per request."""
    for name, adapter in adapters.items():
        _write(checkpoint, name, adapter, folder / name)
    return {"adapters": len(adapters)}


def _write(checkpoint: Checkpoint, name: str, adapter: Adapter, folder: Path) -> None:
    if adapter.replaced:
        raise BuildError(
            f"{adapter.folder}: it replaces whole weights ({min(adapter.replaced)}), which cannot be done for one"
            " request; merge it into engines of its own: make engines GPU=h100 THINK=1"
        )
    weights = _weights(checkpoint, adapter)
    ranks = {weight.shape[0] for key, weight in weights.items() if key.endswith("lora_A.weight")}
    if len(ranks) != 1 or max(ranks) > LARGEST_RANK:
        raise BuildError(
            f"{adapter.folder}: ranks {sorted(ranks)}; one rank of at most {LARGEST_RANK} is needed"
        )
    (rank,) = ranks
    folder.mkdir()
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": name,
        "r": rank,
        "lora_alpha": adapter.scale * rank,
        "target_modules": sorted({key.split(".")[-3] for key in weights}),
        "bias": "none",
        "lora_dropout": 0.0,
        "task_type": "CAUSAL_LM",
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _weights(checkpoint: Checkpoint, adapter: Adapter) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    for name in adapter.names:
        layer = name.removesuffix(".weight")
        a, b = adapter.matrices(name, linear_shape(checkpoint.text_config, layer))
        served = PREFIX + layer.removeprefix(LLM_PREFIX)
        weights |= {f"{served}.lora_A.weight": a, f"{served}.lora_B.weight": b}
    return weights
