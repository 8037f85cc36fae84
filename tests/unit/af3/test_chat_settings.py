"""Only checkpoints whose conversations look as this server lays them out are built."""

import json
import shutil
from pathlib import Path

import pytest

from build_engines.source import tokenizer_files
from build_engines.source.checkpoint import open_checkpoint
from build_engines.stage import BuildError
from tests.support.engines import random_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(random_checkpoint(), tmp_path / "checkpoint")


def spoil_template(folder: Path, old: str, new: str) -> None:
    path = folder / "chat_template.jinja"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_template_of_audio_flamingo_3_is_accepted(folder: Path, tmp_path: Path) -> None:
    figures = tokenizer_files.build(open_checkpoint(str(folder)), tmp_path)
    assert figures == {"conversations_compared": len(tokenizer_files.PROBES)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("You are a helpful assistant.", "You are a robot."),
        ("part.sound ~ part.text", "part.text ~ part.sound"),
        ("part.sound ~ part.text", "part.sound ~ (part.text | trim)"),
        ("part.text ~ item.text", "item.text"),
        ("assistant\\n", "assistant\\n<think>"),
    ],
)
def test_another_template_is_refused(folder: Path, tmp_path: Path, old: str, new: str) -> None:
    spoil_template(folder, old, new)
    with pytest.raises(BuildError, match="its chat template is not Audio Flamingo 3's"):
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
