"""One token at a time, as Transformers' logits processors would allow it."""

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from af3.errors import RequestError
from af3.llm.sampling import Sampler, SamplingSettings

VOCABULARY = 50
PROMPT = np.array([3, 4, 4, 70], np.int32)


def logits(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, VOCABULARY).astype(np.float32)


def test_top_k_one_is_the_largest() -> None:
    assert Sampler(SamplingSettings(), PROMPT, VOCABULARY).next_token(logits(0)) == logits(0).argmax()


def test_frequencies_are_those_of_transformers_probabilities() -> None:
    settings = {"temperature": 0.7, "top_k": 12, "top_p": 0.8, "repetition_penalty": 1.3}
    processors = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(1.3),
            TemperatureLogitsWarper(0.7),
            TopKLogitsWarper(12),
            TopPLogitsWarper(0.8),
        ]
    )
    expected = torch.softmax(processors(torch.tensor([[3, 4, 4]]), torch.tensor(logits(1)[None])), -1)[
        0
    ].numpy()
    draws = [
        Sampler(SamplingSettings(**settings, seed=seed), PROMPT, VOCABULARY).next_token(logits(1))
        for seed in range(4000)
    ]
    found = np.bincount(draws, minlength=VOCABULARY) / len(draws)
    assert set(np.flatnonzero(found)) <= set(np.flatnonzero(expected))
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_a_seed_repeats_its_draws_and_another_does_not() -> None:
    def draws(seed: int) -> list[int]:
        sampler = Sampler(SamplingSettings(top_k=0, seed=seed), PROMPT, VOCABULARY)
        return [sampler.next_token(logits(step)) for step in range(20)]

    assert draws(7) == draws(7)
    assert draws(7) != draws(8)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"repetition_penalty": -1.0},
    ],
)
def test_settings_that_cannot_be_drawn_with_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(RequestError):
        SamplingSettings(**bad)  # type: ignore[arg-type]
