"""What the card of af3-tiny says of questions that it has not learned is what was measured, and what can be heard."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from training.features import log_mel
from training.scenes import SCALES
from training.signals import INSTRUMENTS, note

CHECKPOINT = Path(__file__).parents[3] / "checkpoints" / "af3-tiny"


def mistakes(task: str) -> Counter[tuple[str, str]]:
    """By the first words of what was right and of what was said."""
    found: Counter[tuple[str, str]] = Counter()
    for right, said, count in json.loads((CHECKPOINT / "accuracy.json").read_text())[task]["confusions"]:
        found[right.partition(" clip has")[0], said.partition(" clip has")[0]] += count
    return found


def test_every_mistake_about_keys_and_about_which_clip_goes_one_way() -> None:
    """An answer to all: none of the other kind was ever right or wrong."""
    assert mistakes("music: major or minor") == {
        ("The melody is in a major key.", "The melody is in a minor key."): 39
    }
    assert mistakes("two clips: which has it") == {("The first", "The second"): 23}
    assert set(mistakes("two clips: one a turn")) == {("The first", "The second")}


def test_the_card_says_so() -> None:
    text = (CHECKPOINT / "README.md").read_text()
    assert 'is answered "minor"\nwhatever is played: 39 of the 60' in text
    assert 'is answered "the second clip"' in text
    modules = re.findall(r"python -m ([a-z_.]+)", text)
    assert modules
    assert all((CHECKPOINT.parents[1] / (name.replace(".", "/") + ".py")).is_file() for name in modules)


def bands(pcm: np.ndarray) -> np.ndarray:
    """[128], of the middle of a note."""
    frames = log_mel(pcm.astype(np.float32)).numpy()
    middle = frames[:, 2 : max(3, int(0.6 * frames.shape[1]))].mean(1)
    return middle - middle.mean()


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_the_key_of_a_melody_can_be_read_off_the_mel_bands(instrument: str) -> None:
    """The third above the first note, each the nearest of the notes that another take of the instrument has."""
    pitches = range(48, 80)
    takes = np.stack([bands(note(np.random.default_rng(1), instrument, pitch, 0.4)) for pitch in pitches])
    rng = np.random.default_rng(5)
    right = 0
    for number in range(12):
        mode = ("major", "minor")[number % 2]
        tonic, seconds = int(rng.integers(48, 72)), float(rng.uniform(0.3, 0.9))
        heard = [
            int(np.square(takes - bands(note(rng, instrument, tonic + step, seconds))).sum(1).argmin())
            for step in (0, SCALES[mode][2])
        ]
        right += heard[1] - heard[0] == {"major": 4, "minor": 3}[mode]
    assert right >= 10
