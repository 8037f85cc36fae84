"""What the card of af3-tiny says is what was measured, and how it was."""

import json
import re
from pathlib import Path

import pytest

from training import card
from training.evaluate import SENT_AWAY, Score
from training.natural_evaluation import COUNTS

ROOT = Path(__file__).parents[3]
CHECKPOINT = ROOT / "checkpoints" / "af3-tiny"


def test_its_commands_are_modules_of_the_repository() -> None:
    modules = re.findall(r"python -m ([a-z_.]+)", (CHECKPOINT / "README.md").read_text())
    assert modules
    assert all((ROOT / (name.replace(".", "/") + ".py")).is_file() for name in modules)


def test_its_table_is_that_of_the_figures_beside_it() -> None:
    text = (CHECKPOINT / "README.md").read_text()
    for name, row in json.loads((CHECKPOINT / "accuracy.json").read_text()).items():
        share = 100 * row["right"] / row["asked"]
        assert f"| {name} | {row['asked']} | {share:.1f} % |" in text


def test_a_written_card_has_no_gaps_and_all_figures(tmp_path: Path) -> None:
    scores = {"sound: which": Score(asked=8, right=7, bar=0.9), SENT_AWAY: Score(8, 1, 0.02, at_most=True)}
    card.write(tmp_path, scores, 0.9)
    text = (tmp_path / "README.md").read_text()
    assert not re.search(r"<<|>>|\{[a-z_:.0-9]+\}", text)
    assert "| sound: which | 8 | 87.5 % | 90 % | missed |" in text
    assert f"| {SENT_AWAY} | 8 | 12.5 % | ≤ 2 % | missed |" in text
    assert json.loads((tmp_path / "accuracy.json").read_text())["sound: which"]["right"] == 7


@pytest.mark.parametrize("kind", COUNTS)
def test_a_written_card_says_how_many_clips_the_recogniser_read(kind: str) -> None:
    assert re.search(rf"{COUNTS[kind]} of \d+ clips of the kind {kind}", card.judged())
