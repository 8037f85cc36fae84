"""Tokens that wait for the next response leave by themselves when the LLM stops: by the request that brought them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tests.support.pb_utils_stand_in as pb_utils
from af3 import contract, pace
from af3.pace import LONGEST_WAIT_S
from serving.steps.answers import Answers
from serving.steps.settings import PostprocessSettings
from tests.support.tiny import FOLDER, TOKENIZER, manifest
from tests.unit.af3.test_speech_stall import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def answers(tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    monkeypatch.setattr(pace, "LONGEST_WAIT_S", 1e9)  # every response but the first is early
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text((FOLDER / "tokenizer.json").read_text())
    manifest().write(tmp_path)
    settings = PostprocessSettings(engine_dir=tmp_path, idle_s=60.0, most_responses_per_s=1e-9)
    answers = Answers(settings, clock)
    yield answers
    answers.close()


def push(answers: Answers, text: str, name: str = "a") -> pb_utils.Request:
    ids = TOKENIZER.encode(text)
    request = pb_utils.Request(
        {
            contract.OUTPUT_IDS.name: np.array([[ids]], np.int32),
            contract.SEQUENCE_LENGTH.name: np.array([[len(ids)]], np.int32),
        },
        name,
        max_tokens=500,
    )
    answers.take(request)
    return request


def texts(request: Any) -> list[str]:
    return [response.tensors[contract.TEXT.name][0].decode() for response in request.sender.responses]


def test_what_waits_leaves_when_no_other_token_comes(answers: Answers, clock: HandClock) -> None:
    assert texts(push(answers, "It ")) == ["It "]
    request = push(answers, "rains ")
    clock.advance(LONGEST_WAIT_S / 2)
    clock.settle()
    assert not request.sender.finals
    clock.advance(LONGEST_WAIT_S / 2 + 0.001)
    clock.settle()
    assert (texts(request), request.sender.finals) == (["rains "], 1)
    (response,) = request.sender.responses
    assert response.tensors[contract.INDEX.name].tolist() == [1]
    last = push(answers, "")
    assert last.sender.responses[0].tensors[contract.INDEX.name].tolist() == [2]


def test_what_waits_goes_with_the_next_token(answers: Answers, clock: HandClock) -> None:
    push(answers, "It ")
    first, second = push(answers, "ra"), push(answers, "ins ")
    assert (texts(first), first.sender.finals) == ([], 1)
    clock.advance(LONGEST_WAIT_S + 0.001)
    clock.settle()
    assert texts(second) == ["rains "]
    assert first.sender.finals == second.sender.finals == 1


def test_the_last_response_takes_what_waits_and_nothing_is_left(answers: Answers, clock: HandClock) -> None:
    push(answers, "It ")
    waiting, last = push(answers, "rains."), push(answers, "")
    assert (texts(waiting), waiting.sender.finals) == ([], 1)
    assert (texts(last), last.sender.finals) == (["rains."], 1)


def test_a_client_that_left_spoils_nothing(answers: Answers, clock: HandClock) -> None:
    push(answers, "It ")
    request = push(answers, "rains ")
    request.sender.broken = True
    clock.advance(LONGEST_WAIT_S + 0.001)
    clock.settle()
    assert texts(push(answers, "on ", "b")) == ["on "]


def test_closing_ends_the_requests_that_wait(answers: Answers) -> None:
    push(answers, "It ")
    request = push(answers, "rains ")
    answers.close()
    assert request.sender.finals == 1
