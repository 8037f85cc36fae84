"""Target `any`: what vLLM can and cannot be built for, and adapters as PEFT writes them for a Qwen2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from build_engines.llm import lora
from build_engines.source import think
from build_engines.source.checkpoint import Checkpoint, open_checkpoint
from build_engines.stage import BuildError
from build_engines.targets import any as any_gpu
from tests.support import vllm
from tests.support.engines import random_checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(str(random_checkpoint()))


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    vllm.write_adapter(checkpoint.folder, tmp_path / "given")
    return tmp_path / "given"


def change(folder: Path, name: str, change: torch.Tensor) -> None:
    weights = load_file(folder / think.WEIGHTS)
    save_file(weights | {name: change}, folder / think.WEIGHTS)


def test_what_is_written_changes_every_weight_as_the_adapter_does(
    checkpoint: Checkpoint, folder: Path, tmp_path: Path
) -> None:
    adapter = think.read_adapter(folder, checkpoint)
    lora.build(checkpoint, {"other": adapter}, tmp_path)
    config = json.loads((tmp_path / "other" / think.CONFIG).read_text())
    weights = load_file(tmp_path / "other" / think.WEIGHTS)
    assert len(weights) == 2 * len(adapter.names) > 0
    for name in adapter.names:
        layer = "base_model.model.model." + name.removeprefix("language_model.").removesuffix(".weight")
        a, b = weights[f"{layer}.lora_A.weight"], weights[f"{layer}.lora_B.weight"]
        weight = checkpoint.tensor(name).float()
        torch.testing.assert_close(
            weight + config["lora_alpha"] / config["r"] * (b @ a), adapter.merged(name, weight)
        )
        assert layer.rpartition(".")[2] in config["target_modules"]


def test_an_adapter_of_another_checkpoint_is_refused(
    checkpoint: Checkpoint, folder: Path, tmp_path: Path
) -> None:
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    change(folder, name, torch.zeros(vllm.RANK, 7))
    with pytest.raises(BuildError, match="it belongs to another checkpoint"):
        lora.build(checkpoint, {"other": think.read_adapter(folder, checkpoint)}, tmp_path)


@pytest.mark.parametrize("name", ["audio_tower.layers.0.fc1", "multi_modal_projector.linear_1"])
def test_an_adapter_of_the_encoder_is_refused_with_the_reason(
    name: str, checkpoint: Checkpoint, folder: Path
) -> None:
    change(folder, f"base_model.model.{name}.lora_A.weight", torch.zeros(vllm.RANK, 4))
    with pytest.raises(BuildError, match="is not a LoRA matrix of an LLM layer"):
        think.read_adapter(folder, checkpoint)


def test_whole_weights_cannot_be_put_on_one_request(
    checkpoint: Checkpoint, folder: Path, tmp_path: Path
) -> None:
    torch.save({"lm_head.weight": checkpoint.tensor("lm_head.weight") + 1}, folder / think.NOT_LORA)
    with pytest.raises(BuildError, match=r"replaces whole weights \(lm_head\.weight\).*THINK=1"):
        lora.build(checkpoint, {"other": think.read_adapter(folder, checkpoint)}, tmp_path)


def test_a_precision_that_vllm_does_not_have_there_is_refused() -> None:
    assert [any_gpu.precision_of(device, None, None) for device in ("cpu", "any")] == ["fp32", "bf16"]
    assert any_gpu.precision_of("any", "fp8", None) == "fp8"
    with pytest.raises(BuildError, match="PRECISION=fp8: vLLM on a CPU knows fp32, bf16"):
        any_gpu.precision_of("cpu", "fp8", None)


@pytest.mark.parametrize("wanted", ["awq", "gptq", "compressed-tensors"])
def test_a_precision_that_only_a_checkpoint_can_have_is_refused_with_the_reason(wanted: str) -> None:
    with pytest.raises(
        BuildError, match=rf"PRECISION={wanted}: the checkpoint is not quantised.*give one that is.*bf16, fp8"
    ):
        any_gpu.precision_of("any", wanted, None)


@pytest.mark.parametrize("given", [["think"], ["a-b=x"], ["=x"], ["a="]])
def test_an_adapter_without_a_name_and_a_folder_is_refused(given: list[str], checkpoint: Checkpoint) -> None:
    with pytest.raises(BuildError, match="must be NAME=FOLDER"):
        any_gpu.open_adapters(checkpoint, False, given)


def test_a_folder_that_is_no_adapter_says_what_one_is(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"adapter_config\.json is not there; an adapter is a folder with"):
        any_gpu.open_adapters(checkpoint, False, [f"one={tmp_path}"])
