"""Quantised checkpoints that cannot be served: each is refused by name, with the reason and the remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from build_engines.llm import qwen
from build_engines.source import quantised
from build_engines.source.checkpoint import canonical_name, open_checkpoint
from build_engines.source.packed import LEAVE_OUT, open_for_vllm
from build_engines.source.quantised import METHODS, Method
from build_engines.stage import BuildError
from tests.support import packed_checkpoint as packed
from tests.support.packed_checkpoint import Written

LAYER = "language_model.model.layers.0.mlp.down_proj"
ATTENTION = "language_model.model.layers.1.self_attn"
ASYMMETRIC = partial(packed.settings, "compressed-tensors", 32, True)


def quantization(folder: Path, **changes: Any) -> None:
    """Change quantization_config; None removes a key."""
    settings = json.loads((folder / packed.CONFIG).read_text())["quantization_config"] | changes
    kept = {name: value for name, value in settings.items() if value is not None}
    packed.change_config(folder, {"quantization_config": kept})


# What is refused, by config.json: method, changes, what the message says.
CONFIGS: dict[str, tuple[Method, dict[str, Any], str]] = {
    "another method": (
        "awq",
        {"quant_method": "bitsandbytes"},
        r"with bitsandbytes, .*awq, gptq, compressed",
    ),
    "a method without a name": ("awq", {"quant_method": None}, "with an unknown method"),
    "8 bits of AWQ": ("awq", {"bits": 8}, "awq with 8 bits; vLLM reads 4"),
    "3 bits of GPTQ": ("gptq", {"bits": 3}, "gptq with 3 bits; vLLM reads 4 or 8"),
    "no bits": ("gptq", {"bits": None}, "quantization_config has no 'bits'"),
    "small groups": ("awq", {"group_size": 16}, "groups of 16; vLLM reads -1 or 32 or 64 or 128"),
    "another layout of AWQ": ("awq", {"version": "gemv"}, "version is gemv, and vLLM reads gemm"),
    "AWQ without zeros": ("awq", {"zero_point": False}, "zero_point is false"),
    "another layout of GPTQ": ("gptq", {"checkpoint_format": "marlin"}, "checkpoint_format is marlin"),
    "asymmetric GPTQ": ("gptq", {"sym": False}, "vLLM reads symmetric GPTQ alone"),
    "layers of their own": (
        "gptq",
        {"dynamic": {r"+:.*\.0\..*": {"bits": 8}}},
        r"dynamic gives the layers \+:\.\*.*settings of their own",
    ),
    "floats": ("compressed-tensors", {"format": "float-quantized"}, "format is float-quantized"),
    "schemes in no form": ("compressed-tensors", {"config_groups": []}, "is not in its form"),
    "no schemes": ("compressed-tensors", {"config_groups": {}}, "is not in its form"),
    "sparse weights": (
        "compressed-tensors",
        {"sparsity_config": {"targets": ["Linear"]}},
        "weights are sparse",
    ),
    "a quantised KV cache": (
        "compressed-tensors",
        {"kv_cache_scheme": {"num_bits": 8}},
        "kv_cache_scheme is set",
    ),
    "rotated weights": (
        "compressed-tensors",
        {"transform_config": {"config_groups": {"R": {}}}},
        "transform_config",
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_what_vllm_cannot_serve_is_refused_with_the_reason_and_the_remedy(
    case: str, copied: Callable[[Method], Path]
) -> None:
    method, changes, said = CONFIGS[case]
    folder = copied(method)
    quantization(folder, **changes)
    with pytest.raises(BuildError, match=rf"config\.json.*{said}.*as NVIDIA published it"):
        open_for_vllm(str(folder))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"type": "float"}, "not fixed integers"),
        ({"dynamic": True}, "not fixed integers"),
        ({"actorder": "group"}, "actorder is group"),
        ({"strategy": "tensor"}, "strategy is tensor"),
        ({"num_bits": 8}, "zero points of 4 bits alone"),
    ],
)
def test_schemes_of_compressed_tensors_without_a_kernel_are_refused(
    weights: dict[str, Any], said: str
) -> None:
    given = ASYMMETRIC()
    given["config_groups"]["group_0"]["weights"] |= weights
    with pytest.raises(BuildError, match=said):
        quantised.read(Path("config.json"), {"text_config": {"quantization_config": given}})


def test_quantised_activations_and_several_schemes_are_refused() -> None:
    given = ASYMMETRIC()
    given["config_groups"]["group_0"]["input_activations"] = {"num_bits": 8}
    with pytest.raises(BuildError, match="activations are quantised, and only weights may be"):
        quantised.read(Path("config.json"), {"quantization_config": given})
    given["config_groups"]["group_0"] |= {"input_activations": None, "format": "nvfp4-pack-quantized"}
    with pytest.raises(BuildError, match="format is nvfp4-pack-quantized"):
        quantised.read(Path("config.json"), {"quantization_config": given})
    with pytest.raises(BuildError, match="quantised with awq-like"):
        quantised.read(Path("config.json"), {"quantization_config": "awq-like"})
    given = ASYMMETRIC()
    other = json.loads(json.dumps(given["config_groups"]["group_0"]))
    other["weights"]["group_size"] = 64
    given["config_groups"]["group_1"] = other
    with pytest.raises(BuildError, match="settings of their own"):
        quantised.read(Path("config.json"), {"quantization_config": given})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "name",
    [
        "audio_tower.layers.0.fc1",
        "multi_modal_projector.linear_1",
        "language_model.lm_head",
        "language_model.model.embed_tokens",
        "language_model.model.layers.0.mlp.router",
    ],
)
def test_other_parts_than_the_llms_layers_may_not_be_quantised(
    name: str, method: Method, copied: Callable[[Method], Path]
) -> None:
    folder = copied(method)
    suffix = "weight_packed" if method == "compressed-tensors" else "qweight"
    packed.change_tensors(
        folder, {f"{name}.weight": None, f"{name}.{suffix}": torch.zeros(4, 4, dtype=torch.int32)}
    )
    with pytest.raises(BuildError) as refused:
        open_for_vllm(str(folder))
    assert f"{canonical_name(f'{name}.x')[:-2]} is quantised, and only the LLM's linear layers" in str(
        refused.value
    )
    assert str(refused.value).endswith(LEAVE_OUT[method])


def test_one_of_the_layers_that_vllm_computes_together_may_not_be_quantised_alone(
    copied: Callable[[Method], Path],
) -> None:
    folder = copied("gptq")
    dropped = {f"{ATTENTION}.k_proj.{part}": None for part in ("qweight", "qzeros", "scales", "g_idx")}
    packed.change_tensors(folder, dropped | {f"{ATTENTION}.k_proj.weight": torch.zeros(64, 128)})
    with pytest.raises(
        BuildError, match=r"layers\.1\.self_attn\.k_proj is not, and vLLM computes them as one"
    ):
        open_for_vllm(str(folder))


def test_tensors_that_are_not_what_the_config_says_are_refused(copied: Callable[[Method], Path]) -> None:
    folder = copied("awq")
    quantization(folder, group_size=64)
    with pytest.raises(BuildError, match=r"qzeros is 8 x 16, and awq, 4 bits, groups of 64 makes it 4 x 16"):
        open_for_vllm(str(folder))
    quantization(folder, group_size=32)
    packed.change_tensors(folder, {f"{LAYER}.scales": None})
    with pytest.raises(BuildError, match=r"layers\.0\.mlp\.down_proj has no scales; download"):
        open_for_vllm(str(folder))


def test_a_bias_that_vllm_would_drop_is_refused_unless_it_is_zero(copied: Callable[[Method], Path]) -> None:
    folder = copied("gptq")
    open_for_vllm(str(folder))
    packed.change_tensors(folder, {f"{LAYER}.bias": torch.ones(128)})
    with pytest.raises(BuildError, match=r"down_proj\.bias is not zero, and vLLM's Qwen2 has no bias there"):
        open_for_vllm(str(folder))


def test_groups_in_the_order_of_activations_are_refused_and_static_ones_are_not(
    copied: Callable[[Method], Path], tmp_path: Path
) -> None:
    folder = copied("gptq")
    quantization(folder, desc_act=True)  # with static groups the order is the plain one
    qwen.build(open_for_vllm(str(folder)), None, tmp_path)
    assert json.loads((tmp_path / packed.CONFIG).read_text())["quantization_config"]["desc_act"] is False
    groups = load_file(folder / packed.WEIGHTS)[f"{LAYER}.g_idx"]
    packed.change_tensors(folder, {f"{LAYER}.g_idx": groups.flip(0)})
    with pytest.raises(BuildError, match=r"g_idx mixes the groups.*desc_act=False"):
        open_for_vllm(str(folder))


def test_a_config_and_weights_of_which_only_one_is_quantised_are_refused(
    copied: Callable[[Method], Path], written: dict[Method, Written], tmp_path: Path
) -> None:
    folder = copied("awq")
    config = json.loads((folder / packed.CONFIG).read_text())
    del config["quantization_config"]
    (folder / packed.CONFIG).write_text(json.dumps(config))
    for opened in (open_checkpoint, open_for_vllm):
        with pytest.raises(
            BuildError, match=r"has no quantization_config; copy it from .*quantize_config\.json"
        ):
            opened(str(folder))
    whole = shutil.copytree(written["awq"].twin, tmp_path / "whole")
    packed.change_config(whole, {"quantization_config": packed.settings("awq", 32, True)})
    with pytest.raises(BuildError, match="says awq, but no layer of the LLM is packed"):
        open_for_vllm(str(whole))
