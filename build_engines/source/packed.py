"""Opens a checkpoint whose LLM may be quantised, for vLLM, and checks every packed tensor.

Only the LLM's linear layers may be packed. The encoder is compiled from its weights as numbers, and vLLM looks up the
embedding table and multiplies by lm_head unpacked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import torch
from transformers import Qwen2Config

from build_engines.source.checkpoint import Checkpoint, Stored, open_stored, packed_layer
from build_engines.source.quantised import Method, Quantisation
from build_engines.stage import BuildError

LAYER = re.compile(r"language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)")
WITH_BIAS = ("q_proj", "k_proj", "v_proj")
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # vLLM computes each of these as one layer
ORDER = ("g_idx", "weight_g_idx")  # the group of every input; vLLM ignores it
SERVED_FLOAT_BYTES = 2
# What leaves the other parts out, by the name that each program gives it.
LEAVE_OUT: Mapping[Method, str] = {
    "awq": 'modules_to_not_convert=["audio_tower", "multi_modal_projector", "lm_head"]',
    "gptq": 'dynamic={"-:.*audio_tower.*": {}, "-:.*multi_modal_projector.*": {}}, lm_head=False',
    "compressed-tensors": 'ignore=["lm_head", "re:.*audio_tower.*", "re:.*multi_modal_projector.*"]',
}


def open_for_vllm(source: str) -> Checkpoint:
    """Open a folder or hub id like `open_checkpoint`, whether or not its LLM is quantised.

    Raises BuildError when other parts are quantised, or when the tensors are not what config.json says.
    """
    checkpoint = open_stored(source)
    if checkpoint.quantisation is not None:
        _check(checkpoint, checkpoint.quantisation)
    return checkpoint


def served_bytes(checkpoint: Checkpoint) -> int:
    """Bytes of the LLM as vLLM holds it: packed tensors as they are, everything else in BF16."""
    return sum(
        math.prod(stored.shape) * (SERVED_FLOAT_BYTES if stored.is_float else stored.item_bytes)
        for _, stored in llm_tensors(checkpoint)
    )


def llm_tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, Stored]]:
    """Canonical name and description of every tensor of the LLM that vLLM loads."""
    for name, stored in checkpoint.stored.items():
        in_llm = name.startswith("language_model.") or name == "lm_head.weight"
        if in_llm and name.rpartition(".")[2] not in ORDER:
            yield name, stored


def _check(checkpoint: Checkpoint, quantisation: Quantisation) -> None:
    packed = {layer for name in checkpoint.stored if (layer := packed_layer(name))}
    others = sorted(layer for layer in packed if not LAYER.fullmatch(layer))
    if others:
        raise BuildError(
            f"{checkpoint.folder}: {others[0]} is quantised, and only the LLM's linear layers may be: encoder, adaptor,"
            " embedding table and lm_head are read as numbers; quantise again without them: "
            + LEAVE_OUT[quantisation.method]
        )
    if not packed:
        raise BuildError(
            f"{checkpoint.folder}: config.json says {quantisation.method}, but no layer of the LLM is packed; give the"
            " checkpoint as it was published"
        )
    _check_fused(checkpoint, packed)
    for layer in sorted(packed):
        _check_layer(checkpoint, quantisation, layer)


def _check_fused(checkpoint: Checkpoint, packed: set[str]) -> None:
    for layer in sorted(packed):
        block, _, name = layer.rpartition(".")
        for fused in FUSED:
            missing = [other for other in fused if name in fused and f"{block}.{other}" not in packed]
            if missing:
                raise BuildError(
                    f"{checkpoint.folder}: {layer} is quantised and {block}.{missing[0]} is not, and vLLM computes them"
                    " as one layer; quantise both or neither"
                )


def _check_layer(checkpoint: Checkpoint, quantisation: Quantisation, layer: str) -> None:
    for suffix, shape in _shapes(checkpoint.text_config, quantisation, layer).items():
        found = checkpoint.stored.get(f"{layer}.{suffix}")
        if found is None:
            raise BuildError(f"{checkpoint.folder}: {layer} has no {suffix}; download the checkpoint again")
        if found.shape != shape:
            raise BuildError(
                f"{checkpoint.folder}: {layer}.{suffix} is {_times(found.shape)}, and {quantisation} makes it"
                f" {_times(shape)}; the config.json is another checkpoint's, or the layout is none that vLLM reads"
            )
    bias = f"{layer}.bias"  # AutoGPTQ stores zeros where the model has none
    if not layer.endswith(WITH_BIAS) and checkpoint.has(bias) and checkpoint.tensor(bias).any():
        raise BuildError(f"{checkpoint.folder}: {bias} is not zero, and vLLM's Qwen2 has no bias there")
    for suffix in ORDER:
        if checkpoint.has(f"{layer}.{suffix}"):
            _check_order(checkpoint, quantisation, f"{layer}.{suffix}")


def _check_order(checkpoint: Checkpoint, quantisation: Quantisation, name: str) -> None:
    groups = checkpoint.tensor(name)
    size = len(groups) if quantisation.group == -1 else quantisation.group
    if not torch.equal(groups.long(), torch.arange(len(groups)) // size):
        raise BuildError(
            f"{checkpoint.folder}: {name} mixes the groups (desc_act, activation order), which vLLM no longer reads;"
            " quantise again with desc_act=False, or with static groups"
        )


def _shapes(text: Qwen2Config, quantisation: Quantisation, layer: str) -> dict[str, tuple[int, ...]]:
    """Shape by suffix of the tensors of a packed layer."""
    outputs, inputs = linear_shape(text, layer)
    packing = 32 // quantisation.bits
    groups = 1 if quantisation.group == -1 else inputs // quantisation.group
    if quantisation.method == "compressed-tensors":
        shapes: dict[str, tuple[int, ...]] = {
            "weight_packed": (outputs, inputs // packing),
            "weight_scale": (outputs, groups),
            "weight_shape": (2,),
        }
        zeros = {"weight_zero_point": (outputs // packing, groups)}
        return shapes | (zeros if quantisation.has_zeros else {})
    by_inputs = quantisation.method == "gptq"
    return {
        "qweight": (inputs // packing, outputs) if by_inputs else (inputs, outputs // packing),
        "qzeros": (groups, outputs // packing),
        "scales": (groups, outputs),
    }


def linear_shape(text: Qwen2Config, layer: str) -> tuple[int, int]:
    """Outputs and inputs of a linear layer of the LLM, by its canonical name."""
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    hidden, ffn = text.hidden_size, text.intermediate_size
    query, keys = (
        text.num_attention_heads * head,
        (text.num_key_value_heads or text.num_attention_heads) * head,
    )
    return {
        "q_proj": (query, hidden),
        "k_proj": (keys, hidden),
        "v_proj": (keys, hidden),
        "o_proj": (hidden, query),
        "gate_proj": (ffn, hidden),
        "up_proj": (ffn, hidden),
        "down_proj": (hidden, ffn),
    }[layer.rpartition(".")[2]]


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
