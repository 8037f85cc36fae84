"""A step that Triton gave up for dead may answer yet, and then for another: nothing more is taken from that Triton."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from serving.door.door import Door
from serving.door.triton_errors import is_given_up
from tests.support.fake_triton import FakeTriton
from tests.support.scrape import wait_until
from tests.support.stand_in_door import door_before
from tests.support.two_protocols import Outcome, ask, leave
from tests.support.wire import Stream

GIVEN_UP = "in ensemble 'audio_flamingo', Stub process 'llm_0_0' is not healthy."


@pytest.fixture
def door(own_triton: FakeTriton) -> Iterator[Door]:
    with door_before(own_triton) as running:
        yield running


@pytest.mark.parametrize(
    ("sentence", "given_up"),
    [
        (GIVEN_UP, True),
        ("Stub process 'preprocess_0_1' is not healthy.", True),
        ("Stub process is not healthy.", True),
        ("Failed to obtain the health mutex.", True),
        ("INVALID_ARGUMENT: prompt: Stub process 'llm_0_0' is not healthy.", False),
        ("in ensemble 'audio_flamingo', UNAVAILABLE: the queue is full", False),
        ("Failed to process the request(s) for model 'llm', message: Stub process is not healthy.", False),
        ("", False),
    ],
)
def test_only_tritons_own_sentence_says_it(sentence: str, given_up: bool) -> None:
    assert is_given_up(sentence) == given_up


def test_all_answers_in_flight_and_all_later_ones_end(door: Door, own_triton: FakeTriton) -> None:
    found: list[Outcome] = []
    other = threading.Thread(target=lambda: found.append(ask("grpc", door, "forever")))
    other.start()
    wait_until(lambda: own_triton.live == 1)
    assert not door.admission.lost_step
    assert ask("grpc", door, f"error={GIVEN_UP}").status == "UNAVAILABLE"
    other.join(20)
    found.append(ask("http", door, "many=3"))
    for outcome in found:
        assert outcome.status == "UNAVAILABLE"
        assert "is being restarted" in outcome.sentence
    assert found[1].text == ""
    assert door.admission.lost_step


def test_it_is_seen_though_the_client_has_left(door: Door, own_triton: FakeTriton) -> None:
    stream = Stream(door.url, prompt=f"wait|deaf|error={GIVEN_UP}")
    wait_until(lambda: own_triton.live == 1)
    stream.cancel()
    wait_until(lambda: own_triton.stops.total() > 0)
    own_triton.go()
    wait_until(lambda: door.admission.lost_step)


def test_it_is_seen_in_the_answer_to_a_stop(door: Door, own_triton: FakeTriton) -> None:
    own_triton.stop_error = GIVEN_UP
    leave("grpc", door, "forever")
    wait_until(lambda: door.admission.lost_step)


def test_an_answer_that_speaks_of_it_is_an_answer(door: Door) -> None:
    said = "Stub process is not healthy."
    assert ask("grpc", door, f"say={said}").text == said
    assert not door.admission.lost_step
