"""Converts a `Qwen2ForCausalLM` folder to a TensorRT-LLM checkpoint: `config.json` and `rank0.safetensors`.

We do not use ModelOpt's exporter, so that this runs and is tested on a CPU: for Qwen the exporter needs TensorRT-LLM,
omits `qwen_type` and, with Transformers 5, `rotary_base` (TensorRT-LLM then silently uses 10 000 instead of 1 000 000).
The tensors are byte for byte those of ModelOpt 0.47's exporter.

Runs beside Transformers 5 and in the pinned container, so it imports only torch and safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from build_engines.stage import BuildError

FP8_MAX = 448.0  # largest float8_e4m3fn
QUANT_ALGO = {"fp8": "FP8", "bf16": None, "int8": "W8A16"}

# TensorRT-LLM's linear layer → the Qwen2 layers stacked in it. SiLU applies to its `mlp.fc`.
LINEARS = {
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.dense": ("self_attn.o_proj",),
    "mlp.fc": ("mlp.gate_proj",),
    "mlp.gate": ("mlp.up_proj",),
    "mlp.proj": ("mlp.down_proj",),
}
# Layers with the same input share one kernel, which has one scale for both.
SHARED_SCALES = {"mlp.fc": ("mlp.gate_proj", "mlp.up_proj"), "mlp.gate": ("mlp.gate_proj", "mlp.up_proj")}


@dataclass(frozen=True)
class Range:
    """Largest magnitudes of one linear layer: of its input during calibration, and of its weight."""

    activation: float
    weight: float


def write(model: Path, folder: Path, precision: str, max_positions: int, ranges: Mapping[str, Range]) -> None:
    """Write the checkpoint into `folder`.

    precision: fp8, bf16, or int8 (BF16 in the file; trtllm-build quantises the weights).
    max_positions: rows of the rotary table; must cover the longest sequence of the engine.
    ranges: Qwen2 module path → Range, for FP8; empty otherwise.
    """
    source = json.loads((model / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config(source, precision, max_positions), indent=2) + "\n")
    save_file(
        dict(tensors(model, source["num_hidden_layers"], precision, ranges)), folder / "rank0.safetensors"
    )


def config(source: Mapping[str, object], precision: str, max_positions: int) -> dict[str, object]:
    """Build TensorRT-LLM's QWenConfig from a Transformers 4 config."""
    if source["model_type"] != "qwen2":
        raise BuildError(f"config.json: model_type is {source['model_type']!r}; only 'qwen2' is supported")
    algorithm = QUANT_ALGO[precision]
    return {
        "producer": {"name": "audio-flamingo-server", "version": "1"},
        "architecture": "Qwen2ForCausalLM",
        "model_type": "qwen",
        "decoder": "qwen",
        # Exporters omit this. Without it QWenConfig builds the layer layout of Qwen 1.
        "qwen_type": "qwen2",
        "dtype": "bfloat16",
        # FP16 logits of this size are 0.02 apart, so rounding would decide near ties.
        "logits_dtype": "float32",
        "vocab_size": source["vocab_size"],
        "hidden_size": source["hidden_size"],
        "intermediate_size": source["intermediate_size"],
        "num_hidden_layers": source["num_hidden_layers"],
        "num_attention_heads": source["num_attention_heads"],
        "num_key_value_heads": source["num_key_value_heads"],
        "head_size": source["head_dim"],
        "hidden_act": source["hidden_act"],
        "norm_epsilon": source["rms_norm_eps"],
        "position_embedding_type": "rope_gpt_neox",
        "rotary_base": source["rope_theta"],
        "rotary_scaling": None,
        "rotary_pct": 1.0,
        "max_position_embeddings": max_positions,
        "seq_length": max_positions,
        "attn_bias": True,
        "mlp_bias": False,
        "bias": False,
        "lm_head_bias": False,
        "residual_mlp": False,
        "rmsnorm": True,
        "use_logn_attn": False,
        "use_parallel_embedding": True,
        "embedding_sharding_dim": 0,
        "share_embedding_table": False,
        "tie_word_embeddings": False,
        "disable_weight_only_quant_plugin": False,
        "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
        # The KV cache stays BF16: Qwen2.5 answers wrongly with FP8 keys (TensorRT-LLM #4218, #2699).
        "quantization": {
            "quant_algo": algorithm,
            "kv_cache_quant_algo": None,
            "exclude_modules": ["lm_head"] if algorithm else [],
        },
    }


def tensors(
    model: Path, layers: int, precision: str, ranges: Mapping[str, Range]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor of `rank0.safetensors`: BF16 or, for fp8, FP8 weights with their scales [1]."""
    read = _Weights(model)
    yield "transformer.vocab_embedding.weight", read("model.embed_tokens.weight")
    for layer in range(layers):
        theirs, ours = f"model.layers.{layer}", f"transformer.layers.{layer}"
        yield f"{ours}.input_layernorm.weight", read(f"{theirs}.input_layernorm.weight")
        yield f"{ours}.post_layernorm.weight", read(f"{theirs}.post_attention_layernorm.weight")
        for name, parts in LINEARS.items():
            weight = torch.cat([read(f"{theirs}.{part}.weight") for part in parts])
            if precision == "fp8":
                scales = _scales([ranges[f"{theirs}.{part}"] for part in SHARED_SCALES.get(name, parts)])
                yield f"{ours}.{name}.activation_scaling_factor", scales[0]
                yield f"{ours}.{name}.weights_scaling_factor", scales[1]
                weight = to_fp8(weight, scales[1])
            yield f"{ours}.{name}.weight", weight
        qkv = [read(f"{theirs}.{part}.bias") for part in LINEARS["attention.qkv"]]
        yield f"{ours}.attention.qkv.bias", torch.cat(qkv)
    yield "transformer.ln_f.weight", read("model.norm.weight")
    yield "lm_head.weight", read("lm_head.weight")


def to_fp8(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Round weight / scale to float8_e4m3fn. Clamps first: past the largest number some torch releases give NaN."""
    return (weight.float() / scale).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)


def _scales(parts: list[Range]) -> tuple[torch.Tensor, torch.Tensor]:
    """(activation, weight) scales, float32 [1]; stacked layers use the larger."""
    activation = max(part.activation for part in parts)
    weight = max(part.weight for part in parts)
    return torch.tensor([activation]) / FP8_MAX, torch.tensor([weight]) / FP8_MAX


class _Weights:
    """The model folder's weights by name, in BF16, read on demand."""

    def __init__(self, model: Path) -> None:
        index = json.loads((model / "model.safetensors.index.json").read_text())
        self._files = {name: model / shard for name, shard in index["weight_map"].items()}

    def __call__(self, name: str) -> torch.Tensor:
        if name not in self._files:
            raise BuildError(f"the split LLM has no {name}; build it again with --force")
        with safe_open(self._files[name], framework="pt") as file:
            return file.get_tensor(name).to(torch.bfloat16)
