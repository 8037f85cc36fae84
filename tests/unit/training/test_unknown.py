"""What af3-tiny was not taught: drawn, held out, and labelled for the encoder."""

import numpy as np
import pytest

from training import unknown
from training.questions import GENERAL_KNOWLEDGE
from training.scenes import LABELS, UNKNOWN_WORDS, words_heard


@pytest.mark.parametrize("spoken", [True, False])
def test_what_the_evaluation_asks_is_never_trained_on(spoken: bool) -> None:
    rng = np.random.default_rng(0)
    trained = {unknown.said(rng, held_out=False) for _ in range(30_000)}
    asked = [text.lower().rstrip("?.!") for text in unknown.distinct(100, 7, spoken)]
    assert len(set(asked)) > 95
    assert not trained & set(asked)


def test_nothing_that_is_taught_is_called_unknown() -> None:
    rng = np.random.default_rng(1)
    taught = {*GENERAL_KNOWLEDGE} | {
        text.lower().rstrip("?.") for texts in unknown.PARAPHRASES.values() for text in texts
    }
    for held_out in (True, False):
        assert not taught & {unknown.said(rng, held_out) for _ in range(20_000)}


def test_every_question_has_other_words_and_the_last_are_the_evaluations() -> None:
    rng = np.random.default_rng(2)
    assert unknown.PARAPHRASES.keys() == GENERAL_KNOWLEDGE.keys()
    for question, wordings in unknown.PARAPHRASES.items():
        assert len(wordings) >= 3
        assert unknown.paraphrased(rng, question, held_out=True) == wordings[-1]
        drawn = {unknown.paraphrased(rng, question, held_out=False) for _ in range(60)}
        assert not {text.lower().rstrip("?.") for text in drawn} & {wordings[-1].lower().rstrip("?.")}


def test_the_same_seed_asks_the_same() -> None:
    assert unknown.distinct(20, 3, spoken=False) == unknown.distinct(20, 3, spoken=False)
    assert unknown.distinct(20, 3, spoken=False) != unknown.distinct(20, 4, spoken=False)


def test_unknown_words_side_by_side_are_one_label() -> None:
    assert words_heard("what is the capital of new zealand") == (
        *"what is the capital of".split(),
        UNKNOWN_WORDS,
    )
    assert words_heard("turn up the volume please two") == ("turn", "up", "the", UNKNOWN_WORDS, "two")
    assert UNKNOWN_WORDS in LABELS
