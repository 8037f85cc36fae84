"""The state of many answers at once, without a server."""

from collections.abc import Sequence

import pytest

from af3.outputs.postprocessor import Delta, Postprocessor
from af3.pace import LONGEST_WAIT_S
from tests.support.tiny import TOKENIZER

END = TOKENIZER.token_id("<|endoftext|>")


class Harness:
    def __init__(self) -> None:
        self.stopped: list[str] = []
        self.now = 0.0
        self.postprocessor = Postprocessor(
            TOKENIZER,
            [END],
            self.stopped.append,
            idle_s=60,
            most_responses_per_s=100,
            clock=lambda: self.now,
        )

    def push(
        self, request_id: str, ids: Sequence[int], cancelled: bool = False, **parameters: object
    ) -> Delta:
        """A push so long after the one before that it is answered."""
        self.now += 1
        delta = self.push_at_once(request_id, ids, cancelled, **parameters)
        assert delta is not None
        return delta

    def push_at_once(
        self, request_id: str, ids: Sequence[int], cancelled: bool = False, **parameters: object
    ) -> Delta | None:
        return self.postprocessor.push(request_id, lambda: parameters, ids, lambda: cancelled)


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


def test_reasoning_and_answer_come_apart_and_all_tokens_count(harness: Harness) -> None:
    ids = TOKENIZER.encode("<think>drops</think>It rains.")
    deltas = [*(harness.push("a", [token]) for token in ids), harness.push("a", [])]
    assert "".join(delta.thinking for delta in deltas) == "drops"
    assert "".join(delta.text for delta in deltas) == "It rains."
    assert [token for delta in deltas for token in delta.token_ids] == ids
    assert deltas[-1].token_count == len(ids)


def test_reasoning_that_max_tokens_cuts_is_no_answer(harness: Harness) -> None:
    ids = TOKENIZER.encode("<think>drops, <")
    deltas = [harness.push("a", [token], max_tokens=len(ids)) for token in ids]
    assert deltas[-1].finish_reason == "length"
    assert "".join(delta.thinking for delta in deltas) == "drops, <"
    assert "".join(delta.text for delta in deltas) == ""


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
    harness.now = 62.0
    harness.postprocessor.forget_idle()
    assert harness.postprocessor.live == 1
    assert harness.push("kept", TOKENIZER.encode("y")).index == 1
    assert harness.push("lost", TOKENIZER.encode("x")).index == 0


def test_an_unfinished_letter_at_the_end_becomes_a_replacement_character(harness: Harness) -> None:
    ids = TOKENIZER.encode("日")[:2]
    assert harness.push("a", ids).text == ""
    assert harness.push("a", []).text == "\ufffd"


def test_tokens_faster_than_their_share_of_responses_travel_together(harness: Harness) -> None:
    ids = TOKENIZER.encode("one two three four")[:4]
    first = harness.push("a", ids[:1])
    assert harness.push_at_once("a", ids[1:2]) is None
    harness.now += 0.009  # 100 responses a second for one answer: one in 10 ms
    assert harness.push_at_once("a", ids[2:3]) is None
    harness.now += 0.002
    second = harness.push_at_once("a", ids[3:])
    assert first.token_ids == tuple(ids[:1]) and (first.index, first.token_count) == (0, 1)
    assert second is not None and second.token_ids == tuple(ids[1:])
    assert (second.index, second.token_count) == (1, 4)
    assert first.text + second.text == TOKENIZER.decode(ids)


def test_the_more_answers_the_longer_each_one_waits(harness: Harness) -> None:
    token = TOKENIZER.encode("x")
    for name in "abcd":
        harness.push_at_once(name, token)
    harness.now += 0.03
    assert harness.push_at_once("d", token) is None
    harness.now += 0.011
    assert harness.push_at_once("d", token) is not None


def test_no_answer_waits_longer_than_a_reader_notices(harness: Harness) -> None:
    token = TOKENIZER.encode("x")
    for number in range(50):
        harness.push_at_once(str(number), token)
    harness.now += LONGEST_WAIT_S
    assert harness.push_at_once("49", token) is not None


@pytest.mark.parametrize("last", [[], TOKENIZER.encode("x"), [END]], ids=["empty", "max_tokens", "end token"])
def test_the_end_brings_what_was_held_at_once(harness: Harness, last: list[int]) -> None:
    held = TOKENIZER.encode("x")
    harness.push("a", held, max_tokens=3)
    assert harness.push_at_once("a", held) is None
    delta = harness.push_at_once("a", last)
    kept = held + [token for token in last if token != END]
    assert delta is not None and delta.token_ids == tuple(kept)
    assert delta.token_count == 1 + len(kept)
    assert delta.finish_reason == ("length" if len(kept) == 2 else "stop")
    assert harness.postprocessor.live == 0


def test_a_cancelled_answer_is_stopped_though_its_tokens_are_held(harness: Harness) -> None:
    token = TOKENIZER.encode("x")
    harness.push("a", token)
    assert harness.push_at_once("a", token, cancelled=True) is None
    harness.now += 0.011
    harness.push_at_once("a", token, cancelled=True)
    assert harness.stopped == ["a"]


def test_an_answer_that_goes_on_is_not_forgotten(harness: Harness) -> None:
    for step in range(5):
        harness.now = 40.0 * step
        delta = harness.push("a", TOKENIZER.encode("x")[:1])
        harness.postprocessor.forget_idle()
        assert delta.index == step


def test_an_answer_seen_just_within_the_idle_time_is_kept(harness: Harness) -> None:
    harness.push("a", TOKENIZER.encode("x"))
    harness.now += 60.0
    harness.postprocessor.forget_idle()
    assert harness.postprocessor.live == 1


def test_a_stop_string_in_the_last_allowed_token_is_a_stop(harness: Harness) -> None:
    ids = TOKENIZER.encode("ab")
    assert harness.push("a", ids, stop="b", max_tokens=len(ids)).finish_reason == "stop"


def test_only_answers_whose_client_left_count_as_cancelled(harness: Harness) -> None:
    harness.push("a", TOKENIZER.encode("one. two"), stop=".")
    assert harness.stopped == ["a"]
    assert harness.postprocessor.cancelled == 0


@pytest.mark.parametrize("last", [TOKENIZER.encode("x"), [END]], ids=["max_tokens", "end token"])
def test_an_empty_final_response_after_the_end_is_no_answer_of_its_own(
    harness: Harness, last: list[int]
) -> None:
    assert harness.push("a", last, max_tokens=1).finish_reason
    assert harness.push_at_once("a", []) is None
    assert harness.postprocessor.live == 0
    for _ in range(2):  # the id may be used again at once
        assert harness.push("a", last, max_tokens=1).index == 0
    harness.now += 61
    harness.postprocessor.forget_idle()
    assert harness.push("a", []).finish_reason == "stop"
