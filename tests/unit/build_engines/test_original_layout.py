"""Audio Flamingo 3 Chat is published in NVIDIA's original layout: the same model, under other names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

from af3.manifest import Manifest
from build_engines.source import hub_checkpoint, original_layout, reach, tokenizer_files
from build_engines.source.checkpoint import Checkpoint, canonical_name, open_checkpoint
from build_engines.stage import BuildError
from build_engines.targets import cpu
from tests.support import original_checkpoint
from tests.support.engines import build_cpu_engines, random_checkpoint

CHAT = "nvidia/audio-flamingo-3-chat"
# What a dry run or a reader of the settings does not see.
UNSEEN = {"_name_or_path", "transformers_version", "architectures", "dtype", "use_cache"}


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return open_checkpoint(str(random_checkpoint()))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "audio-flamingo-server" / "converted"


@pytest.fixture
def folder(source: Checkpoint, tmp_path: Path) -> Path:
    original_checkpoint.write(source, tmp_path / "chat")
    return tmp_path / "chat"


def test_every_tensor_and_every_setting_is_the_model_s_own(folder: Path, source: Checkpoint) -> None:
    found = open_checkpoint(str(folder))
    assert set(map(canonical_name, found.files)) == set(map(canonical_name, source.files))
    assert all(
        torch.equal(found.tensor(name), source.tensor(name)) for name in map(canonical_name, source.files)
    )
    for part in ("text_config", "audio_config"):
        ours, theirs = (getattr(one, part).to_dict() for one in (found, source))
        assert {
            key: (ours[key], theirs[key]) for key in theirs if ours[key] != theirs[key] and key not in UNSEEN
        } == {}
    assert found.config.audio_token_id == source.config.audio_token_id
    assert reach.of(found) == reach.published(CHAT) == reach.AUDIO_FLAMINGO_3


def test_the_prompts_and_control_tokens_are_those_of_transformers_port(
    folder: Path, source: Checkpoint, tmp_path: Path
) -> None:
    found = open_checkpoint(str(folder))
    assert tokenizer_files.model_facts(found) == tokenizer_files.model_facts(source)
    figures = tokenizer_files.build(found, tmp_path)  # compares ids with those of its own processor
    assert figures["conversations_compared"] > 0
    for text in ("What do you hear?", "Déjà vu? 音楽 123", "<sound><|im_end|>\n"):
        assert found.processor.tokenizer(text)["input_ids"] == source.processor.tokenizer(text)["input_ids"]


def test_transformers_answers_alike_from_either_layout(folder: Path, source: Checkpoint) -> None:
    converted = open_checkpoint(str(folder)).folder
    answers = []
    for place in (converted, source.folder):
        model, loading = AudioFlamingo3ForConditionalGeneration.from_pretrained(
            place, dtype=torch.float32, output_loading_info=True
        )
        assert not loading["missing_keys"] and not loading["unexpected_keys"]
        processor = AutoProcessor.from_pretrained(place)
        heard = np.random.default_rng(3).normal(0, 0.1, 30_000).astype(np.float32)
        inputs = processor(text=["<sound>What is it?"], audio=[heard])
        greedy = {"do_sample": False, "repetition_penalty": 1.0}  # its own settings sample
        answers.append(model.generate(**inputs, max_new_tokens=16, **greedy).tolist())
    assert answers[0] == answers[1]


def test_engines_are_built_from_it(folder: Path, tmp_path: Path) -> None:
    found = open_checkpoint(str(folder))
    build_cpu_engines(found, "fp32", tmp_path / "engines" / "cpu")
    manifest = Manifest.read(tmp_path / "engines" / "cpu")
    assert manifest.checkpoint.name == str(folder)
    assert manifest.verification["audio_encoder"]["relative_error"] < 1e-4
    assert manifest.verification["llm"]["tokens_differing"] == 0
    assert manifest.limits == cpu.limits(found)


def test_it_is_rewritten_once(folder: Path, cache: Path) -> None:
    first = open_checkpoint(str(folder))
    times = {path: path.stat().st_mtime_ns for path in cache.glob("*/*")}
    again = open_checkpoint(str(folder))
    assert again.folder == first.folder and again.sha256 == first.sha256
    assert times and times == {path: path.stat().st_mtime_ns for path in cache.glob("*/*")}
    (folder / "llm" / "generation_config.json").write_text('{"eos_token_id": 1}')
    assert open_checkpoint(str(folder)).folder != first.folder


def test_all_its_parts_are_downloaded_and_nothing_of_a_voice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(hub_checkpoint, "snapshot_download", download)
    assert open_checkpoint(CHAT).name == CHAT
    assert asked[-1] == ["config.json", "llm/*", "sound_tower/*", "sound_mm_projector/*"]
    assert "Noncommercial" in capsys.readouterr().out


def _without_heads(folder: Path) -> None:
    path = folder / "sound_tower" / "config.json"
    path.write_text(json.dumps({"num_mel_bins": 128}))


def _of_music_flamingo(folder: Path) -> None:
    path = folder / "llm" / "tokenizer_config.json"
    described = json.loads(path.read_text())
    described["added_tokens_decoder"]["500"] = {"content": "<|sound_bos|>", "special": True}
    path.write_text(json.dumps(described))


def _with_a_voice(folder: Path) -> None:
    path = folder / "sound_mm_projector" / "model.safetensors"
    shutil.copyfile(folder / "sound_tower" / "model.safetensors", path)


FAULTS = {
    "no tower": (
        lambda folder: shutil.rmtree(folder / "sound_tower"),
        "sound_tower: model.safetensors missing",
    ),
    "a shard is missing": (
        lambda folder: (folder / "llm" / "model-00002-of-00002.safetensors").unlink(),
        "llm: model-00002-of-00002.safetensors missing; download the checkpoint again",
    ),
    "heads": (_without_heads, "it does not say encoder_attention_heads"),
    "Music Flamingo": (_of_music_flamingo, r"give the checkpoint whose name ends in -hf"),
    "another adaptor": (_with_a_voice, "is no part of Audio Flamingo 3's adaptor"),
    "another LLM": (
        lambda folder: (folder / "llm" / "config.json").write_text('{"model_type": "llama"}'),
        "model_type is 'llama', must be 'qwen2'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_it_is_said_and_nothing_half_written_is_left(
    fault: str, folder: Path, cache: Path
) -> None:
    damage, said = FAULTS[fault]
    damage(folder)
    with pytest.raises(BuildError, match=said):
        open_checkpoint(str(folder))
    assert not list(cache.glob("*"))


def test_too_little_room_is_said_before_anything_is_written(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(original_layout.shutil, "disk_usage", lambda place: full)
    with pytest.raises(BuildError, match=r"0\.0 GB are free; make room, or set XDG_CACHE_HOME"):
        open_checkpoint(str(folder))
    assert not list(cache.glob("*"))


def test_music_flamingo_of_2025_is_audio_flamingo_3_with_a_system_prompt_of_its_own(
    source: Checkpoint, tmp_path: Path
) -> None:
    """nvidia/music-flamingo-hf: the older class, whose template may greet otherwise."""
    folder = shutil.copytree(source.folder, tmp_path / "music-flamingo-hf")
    prompt = "You are Music Flamingo, a multimodal assistant for language and music."
    for path in folder.glob("chat_template.*"):
        path.write_text(path.read_text().replace(original_layout.SYSTEM_PROMPT, prompt))
    found = open_checkpoint(str(folder))
    assert not found.family.rotates_by_time
    assert tokenizer_files.model_facts(found).default_system_prompt == prompt
    (tmp_path / "tokenizer").mkdir()
    assert tokenizer_files.build(found, tmp_path / "tokenizer")["conversations_compared"] > 0
    assert reach.of(found) == reach.published("nvidia/music-flamingo-hf")
