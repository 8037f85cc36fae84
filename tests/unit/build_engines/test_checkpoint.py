"""Checkpoints are found, checked, identified and read; what is wrong with one is said to the operator."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from build_engines.source import hub_checkpoint
from build_engines.source.checkpoint import canonical_name, open_checkpoint
from build_engines.stage import BuildError
from tests.support.engines import random_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the random checkpoint to be spoiled."""
    return shutil.copytree(random_checkpoint(), tmp_path / "checkpoint")


def shard(folder: Path) -> None:
    """Store the checkpoint's tensors in two files with an index, as large ones are."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def set_model_type(folder: Path, model_type: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": model_type}))


def test_shards_hold_the_same_tensors_as_a_single_file(folder: Path, tmp_path: Path) -> None:
    whole = open_checkpoint(str(random_checkpoint()))
    shard(folder)
    sharded = open_checkpoint(str(folder))
    for name in (
        "lm_head.weight",
        "language_model.layers.1.self_attn.k_proj.bias",
        "audio_tower.conv1.weight",
    ):
        assert torch.equal(sharded.tensor(name), whole.tensor(name))


def test_a_matrix_is_read_in_blocks_of_rows() -> None:
    source = open_checkpoint(str(random_checkpoint()))
    blocks = list(source.rows("lm_head.weight", block=150))
    assert [len(block) for block in blocks] == [150, 150, 100]
    assert torch.equal(torch.cat(blocks), source.tensor("lm_head.weight"))


@pytest.mark.parametrize(
    ("stored", "canonical"),
    [
        (
            "language_model.model.model.layers.0.mlp.up_proj.weight",
            "language_model.layers.0.mlp.up_proj.weight",
        ),
        ("language_model.model.layers.0.mlp.up_proj.weight", "language_model.layers.0.mlp.up_proj.weight"),
        ("model.language_model.layers.0.mlp.up_proj.weight", "language_model.layers.0.mlp.up_proj.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("model.audio_tower.conv1.bias", "audio_tower.conv1.bias"),
        ("multi_modal_projector.linear_1.bias", "multi_modal_projector.linear_1.bias"),
    ],
)
def test_every_way_of_naming_a_tensor_is_understood(stored: str, canonical: str) -> None:
    assert canonical_name(stored) == canonical


def test_the_identity_is_that_of_the_content_not_of_the_place(folder: Path) -> None:
    original = open_checkpoint(str(random_checkpoint())).sha256
    assert open_checkpoint(str(folder)).sha256 == original
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert open_checkpoint(str(folder)).sha256 != original


def test_another_model_is_named_with_what_is_needed(folder: Path) -> None:
    set_model_type(folder, "qwen2_audio")
    with pytest.raises(
        BuildError, match="model_type is 'qwen2_audio', none of audioflamingo3, musicflamingo"
    ):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BuildError, match=name):
        open_checkpoint(str(folder))


def test_a_missing_shard_is_named(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BuildError, match=r"model-00002-of-00002\.safetensors missing; download"):
        open_checkpoint(str(folder))


def test_a_missing_tensor_is_named() -> None:
    with pytest.raises(BuildError, match=r"no tensor lm_head\.bias in the checkpoint"):
        open_checkpoint(str(random_checkpoint())).tensor("lm_head.bias")


@pytest.mark.parametrize("source", ["no-such-folder", "./no/such", "a/b/c"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_checkpoint, "snapshot_download", pytest.fail)
    with pytest.raises(BuildError, match="no such folder, and not a hub id"):
        open_checkpoint(source)


def test_the_licence_is_stated_before_weights_are_downloaded_and_each_is_downloaded_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(folder)
    asked: list[list[str]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        assert "Noncommercial" in capsys.readouterr().out or asked
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(hub_checkpoint, "snapshot_download", download)
    open_checkpoint("nvidia/audio-flamingo-3-hf")
    weights = [name for name in asked[-1] if name.endswith(".safetensors")]
    assert weights == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert not [name for name in asked[0] if name.endswith(".safetensors")]


def test_an_interrupted_download_says_how_to_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, allow_patterns: list[str]) -> str:
        raise ConnectionError("network is unreachable")

    monkeypatch.setattr(hub_checkpoint, "snapshot_download", download)
    with pytest.raises(BuildError, match=r"network is unreachable.*run the same command again to resume"):
        open_checkpoint("someone/audio-flamingo-3")


def test_rope_theta_is_found_where_transformers_4_wrote_it(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["text_config"]["rope_parameters"]
    config["text_config"]["rope_theta"] = 12345.0
    path.write_text(json.dumps(config))
    assert open_checkpoint(str(folder)).text_config.rope_parameters["rope_theta"] == 12345.0


@pytest.mark.parametrize("part", ["", "text_config"])
@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_a_checkpoint_that_is_quantised_already_is_refused_by_the_name_of_its_method(
    folder: Path, method: str, part: str
) -> None:
    path = folder / "config.json"
    written = json.loads(path.read_text())
    (written[part] if part else written)["quantization_config"] = {"quant_method": method, "bits": 4}
    path.write_text(json.dumps(written))
    with pytest.raises(BuildError, match=rf"quantised already \({method}\).*PRECISION=fp8 or int4"):
        open_checkpoint(str(folder))
