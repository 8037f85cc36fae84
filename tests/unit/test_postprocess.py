"""The state of many answers at once, without a server."""

from collections.abc import Sequence

import pytest

from af3.postprocess import Delta, Postprocessor
from tests.unit.test_detokenizer import TOKENIZER

END = TOKENIZER.token_id("<|endoftext|>")


class Harness:
    def __init__(self) -> None:
        self.stopped: list[str] = []
        self.now = 0.0
        self.postprocessor = Postprocessor(
            TOKENIZER, [END], self.stopped.append, idle_s=60, clock=lambda: self.now
        )

    def push(
        self, request_id: str, ids: Sequence[int], cancelled: bool = False, **parameters: object
    ) -> Delta:
        return self.postprocessor.push(request_id, lambda: parameters, ids, cancelled)


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_an_answer_ends_at_max_tokens(harness: Harness) -> None:
    first, second = (harness.push("a", [token], max_tokens=2) for token in TOKENIZER.encode("Hi")[:2])
    assert (first.finish_reason, second.finish_reason) == ("", "length")
    assert (second.index, second.token_count) == (1, 2)
    assert harness.postprocessor.live == 0


def test_an_answer_without_new_tokens_has_ended_by_itself(harness: Harness) -> None:
    harness.push("a", TOKENIZER.encode("Hi")[:1])
    assert harness.push("a", []).finish_reason == "stop"
    assert harness.postprocessor.live == 0


def test_a_second_end_token_ends_the_answer_and_is_no_part_of_it(harness: Harness) -> None:
    delta = harness.push("a", [*TOKENIZER.encode("H"), END])
    assert (delta.text, delta.finish_reason, delta.token_count) == ("H", "stop", 1)


def test_a_stop_string_stops_the_llm_and_its_last_response_ends_the_answer(harness: Harness) -> None:
    assert harness.push("a", TOKENIZER.encode("one. two"), stop=".").text == "one"
    assert harness.stopped == ["a"]
    assert harness.push("a", TOKENIZER.encode("!")).text == ""
    assert harness.push("a", []) == Delta("", "stop", len(TOKENIZER.encode("one. two")) + 1, 2, ())
    assert harness.stopped == ["a"]


def test_a_cancelled_answer_is_stopped_once(harness: Harness) -> None:
    for _ in range(3):
        harness.push("a", TOKENIZER.encode("x"), cancelled=True)
    assert harness.stopped == ["a"]
    assert harness.postprocessor.cancelled == 1
    harness.push("a", [], cancelled=True)
    assert harness.postprocessor.live == 0


def test_interleaved_answers_do_not_mix(harness: Harness) -> None:
    texts = {"a": "The spoken content", "b": "a dog that barks"}
    found = {"a": "", "b": ""}
    for pair in zip(*(TOKENIZER.encode(text) for text in texts.values()), strict=False):
        for name, token in zip(texts, pair, strict=True):
            found[name] += harness.push(name, [token]).text
    assert all(texts[name].startswith(found[name]) and found[name] for name in texts)


def test_an_answer_that_hears_nothing_is_forgotten_and_no_other(harness: Harness) -> None:
    harness.push("lost", TOKENIZER.encode("x"))
    harness.now = 30.0
    harness.push("kept", TOKENIZER.encode("y"))
    harness.now = 61.0
    harness.postprocessor.forget_idle()
    assert harness.postprocessor.live == 1
    assert harness.push("kept", TOKENIZER.encode("y")).index == 1
    assert harness.push("lost", TOKENIZER.encode("x")).index == 0


def test_an_unfinished_letter_at_the_end_becomes_a_replacement_character(harness: Harness) -> None:
    ids = TOKENIZER.encode("日")[:2]
    assert harness.push("a", ids).text == ""
    assert harness.push("a", []).text == "\ufffd"
