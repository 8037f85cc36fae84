"""On vLLM, too, greedy token ids are those of Transformers' `generate()` on the same checkpoint, in float32."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.e2e.test_exactness import (  # noqa: F401  the same tests, on the server of this folder
    QUESTION,
    test_a_request_among_eight_different_ones_is_answered_as_alone,
    test_a_system_message_and_text_before_the_clip,
    test_one_clip_and_a_question,
    test_several_clips_in_one_conversation,
    test_ten_minutes,
    test_text_only,
    test_two_turns,
)
from tests.support.clips import clip, saved
from tests.support.oracle import Oracle
from tests.support.vllm import Leaf, merged_state
from tests.support.wire import Refused, ask, ids_of

if TYPE_CHECKING:
    from tests.vllm.conftest import Built

SAMPLES = Path(__file__).parents[2] / "checkpoints" / "samples"
TOKENS = 48
THINK = "\nPlease think and reason about the input audio before you respond."


@pytest.fixture(scope="module")
def thinking(oracle: Oracle, built: Built) -> Oracle:
    """Transformers with the adapter merged."""
    merged = copy.copy(oracle)
    merged.model = copy.deepcopy(oracle.model)
    merged.model.load_state_dict(merged_state(built.adapter, oracle.model))
    return merged


def test_the_same_clip_with_and_without_think_at_once(
    url: str, oracle: Oracle, thinking: Oracle, tmp_path: Path
) -> None:
    """Keys and values of one adapter must never answer for another: the clip comes first in every prompt."""
    path = saved(tmp_path, clip(12, seed=40), "think.wav")
    plain = oracle.generate([oracle.user(QUESTION, path)], TOKENS)
    thought = thinking.generate([oracle.user(QUESTION + THINK, path)], TOKENS)
    adapted = thinking.generate([oracle.user(QUESTION, path)], TOKENS)
    assert len({tuple(plain), tuple(thought), tuple(adapted)}) == 3

    def answer(**parameters: object) -> list[int]:
        return ids_of(
            ask(url, [path.read_bytes()], QUESTION, parameters={"max_tokens": TOKENS, **parameters})
        )

    for _ in range(2):  # the second time from the cache
        assert answer() == plain
        assert answer(think=True) == thought
        assert answer(adapter="think") == adapted


def test_an_adapter_that_is_not_there_is_refused_by_name(url: str) -> None:
    with pytest.raises(Refused, match=r"there is no 'other'; these engines have: think"):
        ask(url, prompt="Hello?", parameters={"adapter": "other"})


def test_the_answers_about_the_samples_are_those_of_transformers_alone_and_all_at_once(tiny: Leaf) -> None:
    torch.set_num_threads(1)
    oracle = Oracle(SAMPLES.parent / "af3-tiny")
    samples = json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8"))
    expected = [
        oracle.generate([oracle.user(sample["question"], SAMPLES / sample["file"])], 64) for sample in samples
    ]
    asked = [(sample["question"], [(SAMPLES / sample["file"]).read_bytes()]) for sample in samples]
    assert [tiny.ask(f"alone-{place}", *each, max_tokens=64) for place, each in enumerate(asked)] == expected
    together = [tiny.submit(f"all-{place}", *each, max_tokens=64) for place, each in enumerate(asked)]
    assert [answer.wait() for answer in together] == expected
