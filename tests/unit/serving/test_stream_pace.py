"""The answers of an LLM engine as responses: nothing lost, in order, fast tokens together, the ends at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from af3.errors import RequestError
from af3.pace import LONGEST_WAIT_S
from tests.support.pb_utils_stand_in import Request
from tests.unit.af3.test_speech_stall import HandClock

# isort: split
from serving import journal
from serving.steps.speech_sink import SpeechSink
from serving.steps.stream import Stream, Streams


class Answer:
    """A stream of a step whose clock the test sets."""

    def __init__(self, streams: Streams, name: str, most_tokens: int):
        self.request = Request({})
        self.stream = Stream(self.request.sender, name, streams, most_tokens)

    def push(self, *ids: int, final: bool = False) -> None:
        self.stream.tokens(ids, final)

    @property
    def sent(self) -> list[list[int]]:
        return [
            response.tensors["output_ids"].reshape(-1).tolist() for response in self.request.sender.responses
        ]


class Step:
    """100 responses a second: one answer may send one in 10 ms."""

    def __init__(self, most_responses_per_s: float = 100, least_gap_s: float = 0.0) -> None:
        self.clock = HandClock()
        self.streams = Streams(most_responses_per_s, least_gap_s, self.clock)
        self._names = map(str, count())

    def answer(self, most_tokens: int = 1) -> Answer:
        return Answer(self.streams, next(self._names), most_tokens)

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.clock.settle()


@pytest.fixture
def step() -> Iterator[Step]:
    made = Step()
    yield made
    made.streams.close()


@pytest.fixture
def unpaced() -> Iterator[Step]:
    made = Step(1e9)
    yield made
    made.streams.close()


def test_a_stream_sends_tokens_as_tensorrt_llm_does(unpaced: Step) -> None:
    answer = unpaced.answer()
    answer.push(7)
    unpaced.later(0.001)
    answer.push(8, 9)
    answer.push(final=True)
    sent = [response.tensors for response in answer.request.sender.responses]
    assert [one["output_ids"].shape for one in sent] == [(1, 1, 1), (1, 1, 2), (1, 1, 0)]
    assert [one["sequence_length"].tolist() for one in sent] == [[[1]], [[2]], [[0]]]
    assert all(one["output_ids"].dtype == np.int32 for one in sent)
    assert answer.sent == [[7], [8, 9], []]
    assert answer.request.sender.finals == 1


def test_the_first_token_never_waits_and_the_next_ones_travel_together(step: Step) -> None:
    answer = step.answer()
    for token in range(4):
        answer.push(token)
    assert answer.sent == [[0]]
    step.later(0.0101)
    answer.push(4)
    assert answer.sent == [[0], [1, 2, 3, 4]]
    answer.push(5)
    assert answer.sent == [[0], [1, 2, 3, 4]]


def test_an_answer_that_is_alone_waits_for_its_least_gap_too() -> None:
    step = Step(least_gap_s=0.02)
    answer = step.answer()
    answer.push(0)
    answer.push(1)
    step.later(0.0199)
    answer.push(2)
    assert answer.sent == [[0]]
    step.later(0.0002)
    answer.push(3)
    answer.push(4, final=True)
    assert answer.sent == [[0], [1, 2, 3], [4]]  # the end never waits
    step.streams.close()


def test_the_more_answers_the_longer_each_waits_but_never_longer_than_a_reader_notices(step: Step) -> None:
    answers = [step.answer() for _ in range(50)]
    for answer in answers[:3]:
        answer.push(0)
    step.later(0.0201)
    answers[2].push(1)
    assert answers[2].sent == [[0]]
    step.later(0.0101)
    answers[2].push(2)
    assert answers[2].sent == [[0], [1, 2]]
    for answer in answers[3:]:
        answer.push(0)
    step.later(LONGEST_WAIT_S + 0.0001)
    answers[49].push(1)
    assert answers[49].sent == [[0], [1]]


def test_tokens_that_wait_leave_alone_when_the_llm_stops(step: Step) -> None:
    answer = step.answer()
    answer.push(0)
    answer.push(1)
    step.later(LONGEST_WAIT_S / 2)
    assert answer.sent == [[0]]
    step.later(LONGEST_WAIT_S / 2 + 0.001)
    assert answer.sent == [[0], [1]]
    step.later(1.0)
    assert answer.sent == [[0], [1]]
    answer.push(2)
    answer.push(3)
    assert answer.sent == [[0], [1], [2]]


def test_tokens_that_another_took_along_are_not_waited_for_any_more(step: Step) -> None:
    answer = step.answer()
    answer.push(0)
    answer.push(1)
    step.later(0.0101)
    answer.push(2)
    step.later(1.0)
    assert answer.sent == [[0], [1, 2]]  # a response without tokens would end the answer


def test_an_end_before_the_limit_is_told_even_if_it_comes_with_tokens(step: Step) -> None:
    """vLLM's last output has several tokens when others kept its loop busy; the next step knows an end by none."""
    answer = step.answer(most_tokens=4)
    answer.push(0)
    answer.push(1, 2, final=True)
    assert answer.sent == [[0], [1, 2], []]
    assert answer.request.sender.finals == 1
    whole = step.answer(most_tokens=3)
    whole.push(0)
    whole.push(1, 2, final=True)
    assert whole.sent == [[0], [1, 2]]
    assert whole.request.sender.finals == 1


@pytest.mark.parametrize("end", ["limit", "early", "failed"])
def test_nothing_is_sent_after_the_end(step: Step, end: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = step.answer()
    answer.push(0)
    answer.push(1)
    if end == "failed":
        answer.stream.failed(RequestError("UNAVAILABLE", "gone"))
    else:
        answer.push(*([2] if end == "limit" else []), final=True)
    before = len(answer.request.sender.responses)
    step.later(1.0)
    assert len(answer.request.sender.responses) == before and answer.request.sender.finals == 1
    assert not caplog.records  # the sender refuses what comes after its final flag


@pytest.mark.parametrize("held", [(), (1,), (1, 2)])
def test_an_end_by_the_limit_brings_what_was_held_at_once(step: Step, held: Sequence[int]) -> None:
    answer = step.answer()
    answer.push(0)
    for token in held:
        answer.push(token)
    answer.push(9, final=True)
    assert answer.sent == [[0], [*held, 9]]
    assert answer.request.sender.finals == 1


@pytest.mark.parametrize("held", [(), (1,), (1, 2)])
def test_an_end_before_the_limit_is_a_response_without_tokens_behind_what_was_held(
    step: Step, held: Sequence[int]
) -> None:
    answer = step.answer()
    answer.push(0)
    for token in held:
        answer.push(token)
    answer.push(final=True)
    assert answer.sent == [[0], *([list(held)] if held else []), []]
    assert answer.request.sender.finals == 1


def test_answers_that_have_ended_or_failed_slow_nobody_down(step: Step) -> None:
    ended, failed, never_begun, left = (step.answer() for _ in range(4))
    ended.push(0, final=True)
    failed.push(0)
    failed.stream.failed(RequestError("UNAVAILABLE", "gone"))
    never_begun.stream.failed(RequestError("UNAVAILABLE", "gone"))
    left.push(0)
    step.later(0.0101)
    left.push(1)
    assert left.sent == [[0], [1]]
    assert step.streams.begun == 1


def test_a_stream_ends_with_its_error_once(step: Step) -> None:
    answer = step.answer()
    answer.stream.failed(RequestError("DEADLINE_EXCEEDED", "late"))
    assert answer.request.error == "DEADLINE_EXCEEDED: late" and answer.request.sender.finals == 1


def test_a_client_that_is_gone_does_not_end_the_scheduler(step: Step) -> None:
    answer = step.answer()
    answer.request.sender.broken = True
    answer.push(7)
    SpeechSink(answer.request).finish()


def test_a_stream_notes_how_its_answer_went(
    step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(journal.VARIABLE, str(tmp_path / "journal"))
    answer = step.answer()
    step.later(0.25)
    answer.push(7, 8)
    step.later(0.5)
    answer.push(final=True)
    (line,) = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    assert (line["id"], line["status"], line["tokens"]) == ("0", "OK", 2)
    assert (line["first_token_ms"], line["ms"]) == (250, 750)
