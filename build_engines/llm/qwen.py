"""Writes the LLM of an AF3 checkpoint as a plain `Qwen2ForCausalLM` folder that Transformers 4 can read too.

The pinned container has Transformers 4.53, which supports neither Audio Flamingo 3 nor Transformers 5's config files.
So the folder is written here, tensor by tensor, with `rope_theta` where version 4 looks for it; without it, version 4
silently uses 10 000 instead of Qwen2.5's 1 000 000.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import Qwen2Config

from build_engines.llm.decoder_graph import Shape
from build_engines.source.checkpoint import Checkpoint, packed_layer
from build_engines.source.packed import llm_tensors
from build_engines.source.think import LLM_PREFIX, Adapter
from build_engines.stage import BuildError, Figures

SHARD_BYTES = 4 << 30


def build(checkpoint: Checkpoint, adapter: Adapter | None, folder: Path) -> Figures:
    """Write config.json, the weights in shards, their index and the tokenizer; merges `adapter` if given.

    Quantised layers stay as they are packed; config.json then says how, for vLLM.
    """
    weight_map: dict[str, str] = {}
    total_bytes = 0
    for number, shard in enumerate(_shards(checkpoint, adapter)):
        name = f"model-{number:05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, name)
        total_bytes += sum(weight.nbytes for weight in shard.values())
    dtype = str(checkpoint.tensor("lm_head.weight").dtype).removeprefix("torch.")
    index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
    _write_json(folder / "model.safetensors.index.json", index)
    _write_json(folder / "config.json", config(checkpoint.text_config, dtype) | _quantisation(checkpoint))
    _write_tokenizer(checkpoint, folder)
    figures = {"tensors": len(weight_map), "adapted": len(adapter.names) if adapter else 0}
    if (quantisation := checkpoint.quantisation) is None:
        return figures
    packed = sum(packed_layer(name) is not None for name in weight_map)
    return figures | {"quantised": packed, "bits": quantisation.bits, "group": quantisation.group}


def config(text: Qwen2Config, dtype: str) -> dict[str, object]:
    """Build config.json in Transformers 4's format."""
    shape = Shape.of(text)
    rope = text.to_dict()["rope_parameters"]
    if rope["rope_type"] != "default":
        raise BuildError(f"the LLM's rope_type is {rope['rope_type']!r}; only 'default' is supported")
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "torch_dtype": dtype,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": text.rms_norm_eps,
        "rope_theta": rope["rope_theta"],
        "hidden_act": text.hidden_act,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "bos_token_id": text.bos_token_id,
        "eos_token_id": text.eos_token_id,
        "pad_token_id": text.pad_token_id,
    }


def _quantisation(checkpoint: Checkpoint) -> dict[str, Any]:
    """The part of config.json by which vLLM knows what is packed, and how."""
    quantisation = checkpoint.quantisation
    if quantisation is None:
        return {}
    if not quantisation.layers_are_named:
        return {"quantization_config": dict(quantisation.settings)}
    whole = [name for name, _ in llm_tensors(checkpoint) if name.endswith("_proj.weight")]
    ignored = ["lm_head", *(_served_name(name).removesuffix(".weight") for name in sorted(whole))]
    return {"quantization_config": {**quantisation.settings, "ignore": ignored}}


def _shards(checkpoint: Checkpoint, adapter: Adapter | None) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the LLM's weights under their Qwen2ForCausalLM names, a few gigabytes at a time."""
    names = sorted(name for name, _ in llm_tensors(checkpoint))
    shard: dict[str, torch.Tensor] = {}
    for name in tqdm(names, desc="Qwen2.5", unit="tensor", delay=2, leave=False):
        weight = checkpoint.tensor(name)
        if adapter is not None:
            weight = adapter.merged(name, weight)
        if shard and sum(held.nbytes for held in shard.values()) + weight.nbytes > SHARD_BYTES:
            yield shard
            shard = {}
        shard[_served_name(name)] = weight
    yield shard


def _served_name(name: str) -> str:
    """The name in a Qwen2ForCausalLM of a tensor's canonical name."""
    return f"model.{name.removeprefix(LLM_PREFIX)}" if name.startswith(LLM_PREFIX) else name


def _write_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the tokenizer in Transformers 4's format, for NVIDIA's quantize.py."""
    definition = json.loads((checkpoint.folder / "tokenizer.json").read_text(encoding="utf-8"))
    _write_json(folder / "tokenizer.json", definition)
    names = {token["id"]: token["content"] for token in definition["added_tokens"]}
    text = checkpoint.text_config
    described = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for role, token in (("eos_token", text.eos_token_id), ("pad_token", text.pad_token_id)):
        if token in names:
            described[role] = names[token]
    _write_json(folder / "tokenizer_config.json", described)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
