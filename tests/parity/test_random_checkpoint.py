"""The random checkpoint is one to test with: repeatable, and its answers depend on what it hears."""

from pathlib import Path

import pytest
import torch

from tests.support.clips import clip, saved
from tests.support.oracle import Oracle
from training import random_model

TOKENS = 32


def test_the_same_seed_gives_the_same_weights() -> None:
    processor = random_model.random_processor()
    first, second = (random_model.random_model(processor, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_weights() -> None:
    processor = random_model.random_processor()
    first, second = (random_model.random_model(processor, seed).lm_head.weight for seed in (3, 4))
    assert not torch.equal(first, second)


@pytest.fixture(scope="module")
def answers(oracle: Oracle, tmp_path_factory: pytest.TempPathFactory) -> list[list[int]]:
    """Answers to the same question about four sounds, one of them twice."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [saved(folder, clip(2, seed), f"{seed}.wav") for seed in range(4)]
    return [oracle.generate([oracle.user("What do you hear?", path)], TOKENS) for path in [*paths, paths[0]]]


def test_another_sound_gets_another_answer(answers: list[list[int]]) -> None:
    assert answers[0] == answers[-1]
    assert len({tuple(answer) for answer in answers}) == 4


def test_an_answer_is_not_one_token_repeated(answers: list[list[int]]) -> None:
    assert all(len(set(answer)) > len(answer) / 3 for answer in answers)


def test_the_audio_token_and_ids_without_text_are_never_answered(
    oracle: Oracle, answers: list[list[int]]
) -> None:
    known = len(oracle.processor.tokenizer)
    assert all(token < known and token != oracle.processor.audio_token_id for row in answers for token in row)


def test_weights_can_be_read_by_everyone(tmp_path: Path) -> None:
    random_model.save(tmp_path, seed=0)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}
