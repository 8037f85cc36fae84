"""What the evaluation asks outside the world of af3-tiny."""

import numpy as np
import pytest

from training import unknown, unknown_evaluation
from training.natural_evaluation import Sources
from training.questions import GENERAL_KNOWLEDGE
from training.scenes import Studio


def sources() -> Sources:
    """With clips that have no sound."""
    return Sources(Studio(np.random.default_rng(3), None, held_out=True), voices=None)


def test_the_typed_sentences_differ_in_their_words() -> None:
    turns = [turn for (turn,) in unknown_evaluation.typed_unknown(sources())]
    texts = {turn.parts[0].lower().rstrip(".?!") for turn in turns}
    assert len(texts) == 100
    assert texts.isdisjoint(GENERAL_KNOWLEDGE)


@pytest.mark.parametrize(
    ("ask", "count", "clips"),
    [
        (unknown_evaluation.typed_unknown, 100, 0),
        (unknown_evaluation.unknown_about_a_clip, 40, 1),
    ],
)
def test_what_is_unknown_gets_the_honest_sentence(ask, count: int, clips: int) -> None:
    turns = [turn for (turn,) in ask(sources())]
    assert len(turns) == count
    assert {turn.answer for turn in turns} == {unknown.HONEST}
    assert {len(turn.parts) for turn in turns} == {clips + 1}


def test_the_key_of_a_melody_is_not_claimed() -> None:
    (turn,) = unknown_evaluation.key_of_a_melody(sources().studio)
    assert turn.answer == unknown.HONEST
    assert turn.parts[0].kind == "music"


def test_every_taught_question_is_asked_once_in_words_that_no_training_has() -> None:
    turns = [turn for (turn,) in unknown_evaluation.in_other_words(sources())]
    assert [turn.answer for turn in turns] == [*GENERAL_KNOWLEDGE.values()]
    rng = np.random.default_rng(1)
    trained = {
        unknown.paraphrased(rng, q, held_out=False).lower() for q in GENERAL_KNOWLEDGE for _ in range(60)
    }
    assert {turn.parts[0].lower() for turn in turns}.isdisjoint(trained)


def test_noise_comes_alone_and_with_the_question_what_is_heard_and_is_louder_than_silence() -> None:
    studio = sources().studio
    turns = [unknown_evaluation.noise_alone(studio)[0] for _ in range(40)]
    assert {len(turn.parts) for turn in turns} == {1, 2}
    assert {turn.answer for turn in turns} == {"I hear noise."}
    assert min(np.abs(turn.parts[0].pcm).max() for turn in turns) > 0.05
