"""Label tokens that the language model reads in place of audio."""

from itertools import groupby

import numpy as np

from training.data import Phase, Stream, label_tokens
from training.mixes import PEOPLE
from training.scenes import DIGITS, LABELS, Studio


def _runs(ids: list[int]) -> list[tuple[int, int]]:
    """Each id and how often it follows itself."""
    return [(i, len([*run])) for i, run in groupby(ids)]


def test_labels_are_said_in_order_and_equal_ones_with_nothing_between_them(label_ids: list[int]) -> None:
    nothing, one, two = label_ids[0], *(label_ids[LABELS.index(word) + 1] for word in ("one", "two"))
    for seed in range(40):
        said = label_tokens(("one", "one", "two"), label_ids, np.random.default_rng(seed))
        assert [i for i, _ in _runs(said) if i != nothing] == [one, one, two]


def test_labels_are_as_long_and_as_far_apart_as_the_encoder_says_them(label_ids: list[int]) -> None:
    """Measured on spoken digits: the median gap has 5 tokens, every twentieth 14; every fourth label two or more."""
    nothing, rng = label_ids[0], np.random.default_rng(5)
    runs = [
        run for _ in range(400) for run in _runs(label_tokens(("one", "two", "six"), label_ids, rng))[1:-1]
    ]
    gaps = [length for i, length in runs if i == nothing]
    labels = [length for i, length in runs if i != nothing]
    assert 4 <= np.percentile(gaps, 50) <= 10
    assert np.percentile(gaps, 95) >= 14
    assert np.percentile(labels, 75) >= 2
    assert max(labels) > 6


def test_strings_that_are_read_repeat_and_those_that_are_heard_do_not(words, label_ids: list[int]) -> None:
    phase = Phase("people", 1, 1, 1, 1, 0, read_dialogs=200, mix=PEOPLE)
    digit_ids = {label_ids[LABELS.index(digit) + 1] for digit in DIGITS}
    batches = Stream(words, phase, (1, 0), 0, 0)._read(Studio(np.random.default_rng(6), None, held_out=False))
    rows = [row[read].tolist() for batch in batches for row, read in zip(batch.ids, batch.read, strict=True)]
    strings = [[i for i, _ in _runs(row) if i in digit_ids] for row in rows]
    long = [string for string in strings if len(string) >= 5]
    assert np.mean([len({*string}) <= 3 for string in long]) > 0.4
