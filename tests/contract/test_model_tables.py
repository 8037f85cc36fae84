"""What the documents say of each model's limits is what is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from build_engines.source import reach

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MODELS = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")
# As the README groups them.
GROUPS = {
    "Audio Flamingo 3": reach.AUDIO_FLAMINGO_3,
    "Music Flamingo 2601": reach.MUSIC_FLAMINGO,
    "Audio Flamingo Next": reach.AUDIO_FLAMINGO_NEXT,
}


def number(text: str) -> int:
    return int(re.sub(r"\D", "", text))


def row(begin: str, text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(begin))


def test_the_table_of_models_has_every_published_checkpoint_with_its_limits() -> None:
    found = {}
    for line in MODELS.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for name in re.findall(r"`(nvidia/[\w-]+)`", cells[0]) if len(cells) == 5 else ():
            found[name] = tuple(map(number, cells[2:]))
        if len(cells) == 5 and "…-next-" in cells[0]:
            for ending in re.findall(r"`…-next-([\w-]+)`", cells[0]):
                found[f"nvidia/audio-flamingo-next-{ending}"] = tuple(map(number, cells[2:]))
    assert found == {
        name: (known.clip_seconds, known.answer_tokens, known.positions)
        for name, known in reach.PUBLISHED.items()
    }


@pytest.mark.parametrize("name", GROUPS)
def test_the_readme_says_how_far_each_model_hears_and_answers(name: str) -> None:
    known = GROUPS[name]
    clips, answers = row("| one clip |", README), row("| `max_tokens` |", README)
    heard = re.search(rf"([\d ]+) s \({name}\)", clips)
    answered = re.search(rf"(\d+) \({name}\)", answers)
    assert heard is not None and number(heard[1]) == known.clip_seconds
    assert answered is not None and number(answered[1]) == known.answer_tokens
    tokens = f"{known.limits(1).max_audio_tokens:,}".replace(",", " ")
    assert tokens in row("| all clips of a request |", README)
