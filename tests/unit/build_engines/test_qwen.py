"""The split LLM and the think adapter, against Transformers on the same weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AudioFlamingo3ForConditionalGeneration, Qwen2ForCausalLM

from build_engines.llm import qwen
from build_engines.source import think
from build_engines.source.checkpoint import Checkpoint, open_checkpoint
from build_engines.stage import BuildError
from tests.support.engines import random_checkpoint

RANK, ALPHA = 4, 16
IDS = torch.arange(3, 60)[None]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(str(random_checkpoint()))


@pytest.fixture(scope="module")
def af3(checkpoint: Checkpoint) -> AudioFlamingo3ForConditionalGeneration:
    model = AudioFlamingo3ForConditionalGeneration.from_pretrained(checkpoint.folder, dtype=torch.float32)
    return model.eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def split(checkpoint: Checkpoint, adapter: think.Adapter | None, folder: Path) -> Qwen2ForCausalLM:
    folder.mkdir()
    qwen.build(checkpoint, adapter, folder)
    return Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def adapted(checkpoint: Checkpoint, folder: Path, **config: object) -> dict[str, torch.Tensor]:
    """A copy of the checkpoint with a made adapter in `think/`, as PEFT writes it; returns its matrices."""
    shutil.copytree(checkpoint.folder, folder)
    draw = torch.Generator().manual_seed(11)
    matrices = {}
    with torch.device("meta"):
        llm = AudioFlamingo3ForConditionalGeneration(checkpoint.config).model.language_model
    for path, module in llm.named_modules():
        if isinstance(module, torch.nn.Linear):
            shapes = {"A": (RANK, module.in_features), "B": (module.out_features, RANK)}
            for side, shape in shapes.items():
                name = f"base_model.model.language_model.model.{path}.lora_{side}.weight"
                matrices[name] = 0.1 * torch.randn(shape, generator=draw)
    (folder / think.FOLDER).mkdir()
    save_file(matrices, folder / think.FOLDER / think.WEIGHTS)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none"} | config
    (folder / think.FOLDER / think.CONFIG).write_text(json.dumps(settings))
    return matrices


@pytest.mark.parametrize("file", [think.WEIGHTS, think.CONFIG, think.NOT_LORA])
def test_every_file_of_an_adapter_decides_its_identity(tmp_path, file):
    for name in (think.WEIGHTS, think.CONFIG, think.NOT_LORA):
        (tmp_path / name).write_text("one")
    adapter = think.Adapter(tmp_path, 1.0, {}, {})
    before = adapter.sha256
    (tmp_path / file).write_text("two")
    assert adapter.sha256 != before
    (tmp_path / think.NOT_LORA).unlink()
    assert adapter.sha256 != before


def test_the_split_llm_says_what_the_whole_model_says(checkpoint, af3, tmp_path):
    assert torch.equal(logits(split(checkpoint, None, tmp_path / "qwen")), logits(af3))


def test_transformers_4_finds_rope_theta_where_it_looks(checkpoint, tmp_path):
    split(checkpoint, None, tmp_path / "qwen")
    config = json.loads((tmp_path / "qwen" / "config.json").read_text())
    assert config["rope_theta"] == checkpoint.text_config.rope_parameters["rope_theta"]
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["model_type"] == "qwen2"
    assert "rope_parameters" not in config
    assert "dtype" not in config
    assert config["torch_dtype"] in ("float32", "bfloat16")


def test_a_large_llm_is_written_in_shards_that_the_index_names(checkpoint, af3, tmp_path, monkeypatch):
    monkeypatch.setattr(qwen, "SHARD_BYTES", 300_000)
    model = split(checkpoint, None, tmp_path / "qwen")
    assert torch.equal(logits(model), logits(af3))
    shards = sorted((tmp_path / "qwen").glob("*.safetensors"))
    assert len(shards) > 2
    index = json.loads((tmp_path / "qwen" / "model.safetensors.index.json").read_text())
    assert sorted(index["weight_map"]) == sorted(name for shard in shards for name in load_file(shard))


def test_the_adapter_is_merged_as_lora_is_defined(checkpoint, af3, tmp_path):
    matrices = adapted(checkpoint, tmp_path / "af3")
    thinking = open_checkpoint(str(tmp_path / "af3"))
    merged = split(thinking, think.open_adapter(thinking), tmp_path / "qwen")

    def add_lora(path: str):
        a, b = (matrices[f"base_model.model.language_model.model.{path}.lora_{side}.weight"] for side in "AB")
        return lambda _, inputs, output: output + ALPHA / RANK * (inputs[0] @ a.T @ b.T)

    hooks = [
        module.register_forward_hook(add_lora(path))
        for path, module in af3.model.language_model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    expected = logits(af3)
    for hook in hooks:
        hook.remove()
    assert torch.allclose(logits(merged), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, logits(af3), atol=0.1)  # the adapter does something


def test_rank_stabilised_lora_has_its_own_scale(checkpoint, tmp_path):
    adapted(checkpoint, tmp_path / "af3", use_rslora=True)
    assert think.open_adapter(open_checkpoint(str(tmp_path / "af3"))).scale == ALPHA / RANK**0.5


@pytest.mark.parametrize("setting", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}])
def test_what_is_not_plain_lora_is_refused(checkpoint, tmp_path, setting):
    adapted(checkpoint, tmp_path / "af3", **setting)
    with pytest.raises(BuildError, match=f"{next(iter(setting))} is .*only plain LoRA"):
        think.open_adapter(open_checkpoint(str(tmp_path / "af3")))


def test_a_checkpoint_without_an_adapter_says_where_it_looked(checkpoint):
    with pytest.raises(BuildError, match=r"THINK=1: .*think/adapter_config.json is not there"):
        think.open_adapter(checkpoint)


def test_an_adapter_of_another_checkpoint_is_refused(checkpoint, tmp_path):
    matrices = adapted(checkpoint, tmp_path / "af3")
    wide = {
        name: torch.zeros(matrix.shape[0], 999) if "_A" in name else matrix
        for name, matrix in matrices.items()
    }
    save_file(wide, tmp_path / "af3" / think.FOLDER / think.WEIGHTS)
    thinking = open_checkpoint(str(tmp_path / "af3"))
    with pytest.raises(BuildError, match="belongs to another checkpoint"):
        split(thinking, think.open_adapter(thinking), tmp_path / "qwen")


def test_half_an_adapter_is_refused(checkpoint, tmp_path):
    matrices = adapted(checkpoint, tmp_path / "af3")
    matrices.popitem()
    save_file(matrices, tmp_path / "af3" / think.FOLDER / think.WEIGHTS)
    with pytest.raises(BuildError, match="only one of its two matrices"):
        think.open_adapter(open_checkpoint(str(tmp_path / "af3")))


def test_weights_trained_beside_the_lora_replace_the_llms(checkpoint, tmp_path):
    adapted(checkpoint, tmp_path / "af3")
    norm = torch.full((checkpoint.text_config.hidden_size,), 0.5)
    tower = checkpoint.tensor("audio_tower.conv1.bias")
    beside = {
        "base_model.model.llm.model.norm.weight": norm,
        "base_model.model.audio_tower.conv1.bias": tower,
    }
    torch.save(beside, tmp_path / "af3" / think.FOLDER / think.NOT_LORA)
    thinking = open_checkpoint(str(tmp_path / "af3"))
    merged = split(thinking, think.open_adapter(thinking), tmp_path / "qwen")
    assert torch.equal(merged.model.norm.weight, norm)


def test_an_adapter_that_changes_the_encoder_is_refused(checkpoint, tmp_path):
    adapted(checkpoint, tmp_path / "af3")
    tower = checkpoint.tensor("audio_tower.conv1.bias") + 1
    torch.save({"audio_tower.conv1.bias": tower}, tmp_path / "af3" / think.FOLDER / think.NOT_LORA)
    with pytest.raises(BuildError, match=r"changes audio_tower.conv1.bias"):
        think.open_adapter(open_checkpoint(str(tmp_path / "af3")))
