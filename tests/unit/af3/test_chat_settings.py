"""Only checkpoints whose conversations look as this server lays them out are built."""

import json
import shutil
from pathlib import Path

import pytest

from af3.tokenizer import Tokenizer
from build_engines.source import tokenizer_files
from build_engines.source.checkpoint import open_checkpoint
from build_engines.stage import BuildError
from tests.support.engines import random_checkpoint
from training.random_model import SYSTEM_PROMPT, Family


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(random_checkpoint(), tmp_path / "checkpoint")


def spoil_template(folder: Path, old: str, new: str) -> None:
    path = folder / "chat_template.jinja"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("family", ["af3", "next"])
def test_the_templates_of_the_family_are_accepted(family: Family, tmp_path: Path) -> None:
    figures = tokenizer_files.build(open_checkpoint(str(random_checkpoint(family=family))), tmp_path)
    assert figures["conversations_compared"] == len(tokenizer_files.PROBES) * len(
        tokenizer_files.PROBE_SECONDS
    )


@pytest.mark.parametrize("family", ["af3", "next"])
def test_the_default_system_prompt_is_that_of_the_template(family: Family) -> None:
    facts = tokenizer_files.model_facts(open_checkpoint(str(random_checkpoint(family=family))))
    assert facts.default_system_prompt == SYSTEM_PROMPT[family]


def test_a_template_without_a_default_system_prompt_gets_none(folder: Path, tmp_path: Path) -> None:
    spoil_template(folder, "messages[0].role != 'system'", "false")
    source = open_checkpoint(str(folder))
    assert tokenizer_files.model_facts(source).default_system_prompt is None
    tokenizer_files.build(source, tmp_path)


def test_control_tokens_are_those_of_the_checkpoint_not_of_the_class(tmp_path: Path) -> None:
    """Neither config.json nor Transformers' defaults know them better than the tokenizer."""
    folder = shutil.copytree(random_checkpoint(family="next"), tmp_path / "checkpoint")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    named = [config.pop(f"audio_{name}token_id") for name in ("", "bos_", "eos_")]
    path.write_text(json.dumps(config))
    facts = tokenizer_files.model_facts(open_checkpoint(str(folder)))
    assert [facts.audio_token_id, *facts.clip_begin_ids, *facts.clip_end_ids] == named


@pytest.mark.parametrize("token", ["<sound>", "<|sound_bos|>", "<|sound_eos|>"])
def test_an_audio_token_in_a_text_is_text_even_if_the_checkpoint_does_not_mark_it(
    token: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(random_checkpoint(family="next"), tmp_path / "checkpoint")
    path = folder / "tokenizer.json"
    definition = json.loads(path.read_text())
    for added in definition["added_tokens"]:
        added["special"] = added["special"] and added["content"] != token
    path.write_text(json.dumps(definition))
    (tmp_path / "built").mkdir()
    tokenizer_files.build(open_checkpoint(str(folder)), tmp_path / "built")
    tokenizer = Tokenizer.load(tmp_path / "built")
    assert tokenizer.token_id(token) not in tokenizer.encode(f"say {token} now")


def test_a_checkpoint_that_was_renamed_is_refused(tmp_path: Path) -> None:
    """Music Flamingo's weights in Audio Flamingo 3's class load, and hear another sound than they were taught."""
    folder = shutil.copytree(random_checkpoint(family="next"), tmp_path / "checkpoint")
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"model_type": "audioflamingo3"}
    path.write_text(json.dumps(config))
    with pytest.raises(BuildError, match="architectures names MusicFlamingoForConditionalGeneration"):
        open_checkpoint(str(folder))
    path.write_text(json.dumps(config | {"architectures": ["AudioFlamingo3ForConditionalGeneration"]}))
    with pytest.raises(BuildError, match="its processor is a MusicFlamingoProcessor"):
        tokenizer_files.build(open_checkpoint(str(folder)), tmp_path)


def test_a_name_that_audio_flamingo_next_once_had_is_known(tmp_path: Path) -> None:
    folder = shutil.copytree(random_checkpoint(family="next"), tmp_path / "checkpoint")
    for name, old, new in (
        ("config.json", '"musicflamingo"', '"audioflamingonext"'),
        ("config.json", "MusicFlamingoForC", "AudioFlamingoNextForC"),
        ("processor_config.json", "MusicFlamingoP", "AudioFlamingoNextP"),
    ):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))
    (tmp_path / "built").mkdir()
    tokenizer_files.build(open_checkpoint(str(folder)), tmp_path / "built")


def test_a_prompt_without_the_tokens_around_a_clip_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_files, "_clip_boundary", lambda processor: ([], []))
    with pytest.raises(BuildError, match=r"writes .*<\|sound_bos\|><sound><\|sound_eos\|>What do you hear"):
        tokenizer_files.build(open_checkpoint(str(random_checkpoint(family="next"))), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("part.sound ~ part.text", "part.text ~ part.sound"),
        ("part.sound ~ part.text", "part.sound ~ (part.text | trim)"),
        ("part.text ~ item.text", "item.text"),
        ("assistant\\n", "assistant\\n<think>"),
    ],
)
def test_another_template_is_refused(folder: Path, tmp_path: Path, old: str, new: str) -> None:
    spoil_template(folder, old, new)
    with pytest.raises(BuildError, match="its chat template is not Audio Flamingo's"):
        tokenizer_files.build(open_checkpoint(str(folder)), tmp_path)


def test_answers_end_where_those_of_transformers_end(folder: Path) -> None:
    source = open_checkpoint(str(folder))
    facts = tokenizer_files.model_facts(source)
    generation = json.loads((folder / "generation_config.json").read_text())
    assert list(facts.stop_token_ids) == generation["eos_token_id"]
    (folder / "generation_config.json").unlink()
    assert tokenizer_files.model_facts(source).stop_token_ids == (source.text_config.eos_token_id,)


def test_a_tokenizer_that_pads_or_cuts_is_served_without_either(folder: Path, tmp_path: Path) -> None:
    path = folder / "tokenizer.json"
    definition = json.loads(path.read_text())
    definition["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    path.write_text(json.dumps(definition))
    tokenizer_files.build(open_checkpoint(str(folder)), tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"] is None
