"""Quantises a checkpoint's LLM as AutoAWQ, GPTQModel and llm-compressor store it, rounded to nearest.

Beside the packed checkpoint a twin is written: an ordinary checkpoint with the very numbers that the packed one stands
for. Scales have four significant bits, so that every one of these numbers is exact in BF16 too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from build_engines.source.quantised import Method

WEIGHTS, CONFIG = "model.safetensors", "config.json"
BITS = 4
PER_INT32 = 32 // BITS
MIDDLE = 8  # the code of 0.0 in symmetric weights
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # column that each nibble of an int32 holds, from the lowest
PARTS = ("audio_tower", "multi_modal_projector")

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Codes:
    """A matrix [outputs, inputs]: codes 0 to 15, and by group their scales and zero points [outputs, groups]."""

    codes: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor

    @property
    def numbers(self) -> torch.Tensor:
        """What they stand for, float32 [outputs, inputs]."""
        size = self.codes.shape[1] // self.scales.shape[1]
        wide = (part.repeat_interleave(size, dim=1) for part in (self.scales, self.zeros))
        scales, zeros = wide
        return (self.codes - zeros).float() * scales


@dataclass(frozen=True)
class Written:
    """The folders of a packed checkpoint and of its twin."""

    packed: Path
    twin: Path


def write(
    source: Path,
    folder: Path,
    method: Method,
    group: int = 32,
    zeros: bool | None = None,
    whole: str | None = None,
) -> Written:
    """Write `folder/packed` and `folder/twin`.

    zeros: None for what the method usually has. whole: part of the names of layers that stay unquantised.
    """
    with_zeros = method == "awq" if zeros is None else zeros
    packed, twin = folder / "packed", folder / "twin"
    for copy in (packed, twin):
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    stored, numbers = dict(sorted(load_file(source / WEIGHTS).items())), {}
    written: Tensors = {}
    for name, weight in stored.items():
        layer = name.removesuffix(".weight")
        if "language_model" in name and layer.endswith("_proj") and not (whole and whole in layer):
            codes = quantise(weight.float(), group, with_zeros)
            numbers[name] = codes.numbers
            written |= {f"{layer}.{suffix}": tensor for suffix, tensor in PACKERS[method](codes).items()}
            if method == "gptq":  # as AutoGPTQ does, which gives every layer a bias
                written.setdefault(f"{layer}.bias", torch.zeros(len(weight), dtype=torch.half))
        else:  # what vLLM rounds to BF16 is rounded in both
            kept = weight.bfloat16() if "language_model" in name else weight
            numbers[name] = kept.float()
            written[name] = kept
    save_file({name: tensor.contiguous() for name, tensor in written.items()}, packed / WEIGHTS)
    save_file(numbers, twin / WEIGHTS)
    left_out = [*PARTS, *([whole] if whole else [])]
    change_config(packed, {"quantization_config": settings(method, group, with_zeros, left_out)})
    change_config(twin, {"dtype": "float32"})
    return Written(packed, twin)


def change_config(folder: Path, changes: Mapping[str, Any]) -> None:
    written = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps(written | changes), encoding="utf-8")


def change_tensors(folder: Path, changes: Mapping[str, torch.Tensor | None]) -> None:
    """Replace or add tensors; None removes one."""
    tensors = {
        name: value for name, value in (load_file(folder / WEIGHTS) | changes).items() if value is not None
    }
    save_file(tensors, folder / WEIGHTS)


def quantise(weight: torch.Tensor, group: int, zeros: bool) -> Codes:
    """Round a matrix [outputs, inputs] to nearest."""
    outputs, inputs = weight.shape
    parts = weight.reshape(outputs, inputs // group, group)
    if zeros:
        low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
        scales = four_bits((high - low) / 15)
        middle = (-low / scales).round().clamp(0, 15)
    else:
        scales = four_bits(parts.abs().amax(-1) / 7)
        middle = torch.full_like(scales, MIDDLE)
    codes = (parts / scales[..., None]).round() + middle[..., None]
    return Codes(codes.clamp(0, 15).reshape(outputs, inputs).int(), scales, middle.int())


def four_bits(values: torch.Tensor) -> torch.Tensor:
    """Positive values rounded up to four significant bits."""
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp((mantissa * 16).ceil() / 16, exponent)


def pack(codes: torch.Tensor, order: tuple[int, ...] = tuple(range(PER_INT32))) -> torch.Tensor:
    """Pack [rows, columns] into int32 [rows, columns / 8]."""
    rows, columns = codes.shape
    nibbles = codes.reshape(rows, columns // PER_INT32, PER_INT32)[..., list(order)]
    return (nibbles << (BITS * torch.arange(PER_INT32, dtype=torch.int32))).sum(-1, dtype=torch.int32)


def _awq(codes: Codes) -> Tensors:
    return {
        "qweight": pack(codes.codes.T, AWQ_ORDER),
        "qzeros": pack(codes.zeros.T, AWQ_ORDER),
        "scales": codes.scales.T.half(),
    }


def _gptq(codes: Codes) -> Tensors:
    inputs = codes.codes.shape[1]
    groups = codes.scales.shape[1]
    return {
        "qweight": pack(codes.codes).T,
        "qzeros": pack(codes.zeros.T - 1),  # version 1 stores one less
        "scales": codes.scales.T.half(),
        "g_idx": torch.arange(inputs, dtype=torch.int32) // (inputs // groups),
    }


def _compressed_tensors(codes: Codes) -> Tensors:
    packed = {
        "weight_packed": pack(codes.codes),
        "weight_scale": codes.scales.bfloat16(),
        "weight_shape": torch.tensor(codes.codes.shape),
    }
    symmetric = bool((codes.zeros == MIDDLE).all())
    return packed if symmetric else packed | {"weight_zero_point": pack(codes.zeros.T).T}


PACKERS = {"awq": _awq, "gptq": _gptq, "compressed-tensors": _compressed_tensors}


def settings(method: Method, group: int, zeros: bool, left_out: Sequence[str] = PARTS) -> dict[str, Any]:
    """`quantization_config` as each program writes it for a model with an encoder."""
    if method == "awq":
        kept = {"modules_to_not_convert": [*left_out]}
        return {
            "quant_method": method,
            "bits": BITS,
            "group_size": group,
            "zero_point": zeros,
            "version": "gemm",
        } | kept
    if method == "gptq":
        return {
            "quant_method": method,
            "bits": BITS,
            "group_size": group,
            "sym": not zeros,
            "desc_act": False,
            "lm_head": False,
            "checkpoint_format": "gptq",
            "pack_dtype": "int32",
            "dynamic": {f"-:.*{part}.*": {} for part in left_out},
            "meta": {"quantizer": ["gptqmodel:4.2.0"], "damp_percent": 0.05, "true_sequential": True},
        }
    weights = {
        "num_bits": BITS,
        "type": "int",
        "symmetric": not zeros,
        "strategy": "group",
        "group_size": group,
        "dynamic": False,
        "actorder": None,
        "block_structure": None,
        "observer": "minmax",
        "observer_kwargs": {},
    }
    scheme = {
        "targets": ["Linear"],
        "weights": weights,
        "input_activations": None,
        "output_activations": None,
    }
    return {
        "quant_method": method,
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": scheme},
        "ignore": ["lm_head", *(f"re:.*{part}.*" for part in left_out)],
        "kv_cache_scheme": None,
        "sparsity_config": {},
        "transform_config": {},
    }
