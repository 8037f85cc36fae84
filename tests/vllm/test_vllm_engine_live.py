"""vLLM's process by itself: the queue and its limit, deadlines, isolation, and what is left when it is killed."""

from __future__ import annotations

import os
import random
import signal

import pytest

from af3.errors import RequestError
from tests.support import scrape
from tests.support.clips import clip
from tests.support.processes import alive, children
from tests.support.vllm import Answer, Leaf

REQUESTS = int(os.environ.get("REQUESTS", "200"))
AT_ONCE = 16
LONG = {"max_tokens": 1024, "endless": True}  # no test waits for its end


@pytest.mark.timeout(900 + REQUESTS)
def test_every_one_of_many_random_requests_is_answered_as_on_an_idle_engine(tiny: Leaf) -> None:
    """With prefix caching on: clips, questions and lengths in any mixture, many with the same beginning."""
    draw = random.Random(5)
    clips = [clip(seconds, seed=600 + place) for place, seconds in enumerate((0.5, 2, 5.2, 5.2, 9, 20))]
    questions = ["What do you hear?", "What does the speaker say?", "Is it loud? " * 12, "And?"]
    cases = [
        (question, heard, {"max_tokens": tokens, **sampling})
        for question in questions
        for heard in ([], *([one] for one in clips), [clips[0], clips[2]], [clips[2], clips[0]])
        for tokens, sampling in (
            (10, {}),
            (6, {"temperature": 1.2, "seed": 3}),
            (7, {"repetition_penalty": 1.3}),
        )
    ]
    idle = [tiny.ask(f"idle-{place}", *case[:2], **case[2]) for place, case in enumerate(cases)]
    assert len(set(map(tuple, idle))) > len(cases) // 4
    wrong: list[tuple[int, list[int], list[int]]] = []
    flying: list[tuple[int, Answer]] = []
    for number in range(REQUESTS):
        place = draw.randrange(len(cases))
        question, heard, parameters = cases[place]
        flying.append((place, tiny.submit(f"random-{number}", question, heard, **parameters)))
        if len(flying) == AT_ONCE or number == REQUESTS - 1:
            wrong += [
                (place, answer.ids, idle[place]) for place, answer in flying if answer.wait() != idle[place]
            ]
            flying = []
    print(f"{REQUESTS} requests, {len(wrong)} of them answered differently; {tiny.observed.last}")
    assert not wrong, wrong[:5]
    assert tiny.observed.last.cached_tokens > 0


def test_a_full_queue_refuses_and_a_stop_frees_a_slot(tiny: Leaf) -> None:
    slots, queue = 16, 64
    answers = [tiny.submit(f"full-{number}", "Go on.", **LONG) for number in range(slots)]
    scrape.wait_until(lambda: tiny.observed.running == slots)
    waiting = [tiny.submit(f"wait-{number}", "Go on.", **LONG) for number in range(queue)]
    with pytest.raises(RequestError, match="the queue is full") as refused:
        tiny.submit("one-too-many", "Go on.", **LONG)
    assert refused.value.status == "UNAVAILABLE"
    for number in range(slots):
        tiny.engine.stop(f"full-{number}")
    for number in range(queue):
        tiny.engine.stop(f"wait-{number}")
    for answer in (*answers, *waiting):
        answer.wait()
    scrape.wait_until(lambda: tiny.observed.running == tiny.observed.waiting == 0)
    assert tiny.ask("afterwards", "Go on.", max_tokens=3)


def test_a_waiting_request_whose_time_is_up_fails_and_a_vanished_client_is_forgotten(tiny: Leaf) -> None:
    answers = [tiny.submit(f"busy-{number}", "Go on.", **LONG) for number in range(16)]
    scrape.wait_until(lambda: tiny.observed.running == 16)
    late = tiny.submit("late", "Go on.", timeout_s=0.2, max_tokens=3)
    with pytest.raises(RequestError, match=r"not answered within 0\.2 s"):
        late.wait()
    for answer in answers:
        answer.gone = True
    for answer in answers:
        answer.wait()
    scrape.wait_until(lambda: tiny.observed.running == 0)


def test_a_request_stopped_before_vllm_has_it_is_forgotten(tiny: Leaf) -> None:
    """Of ten minutes: its embeddings are put in place meanwhile."""
    long = clip(600, seed=610)
    for number in range(3):
        answer = tiny.submit(f"at-once-{number}", "Go on.", [long], **LONG)
        tiny.engine.stop(f"at-once-{number}")
        answer.wait()
    assert tiny.ask("after-them", "Go on.", max_tokens=3)
    scrape.wait_until(lambda: tiny.observed.running == 0 and tiny.observed.last.kv_use == 0)


def test_an_id_in_use_is_refused(tiny: Leaf) -> None:
    first = tiny.submit("twice", "Go on.", **LONG)
    with pytest.raises(RequestError, match="is in use"):
        tiny.submit("twice", "Go on.")
    tiny.engine.stop("twice")
    first.wait()


@pytest.mark.parametrize("victim", ["vLLM's engine", "the process before it"])
def test_a_killed_engine_fails_what_is_in_flight_and_leaves_no_process(victim: str, tiny: Leaf) -> None:
    leaf = Leaf(tiny.engines)  # its own: others need `tiny` afterwards
    below = children(leaf.engine.pid)
    answer = leaf.submit("doomed", "Go on.", **LONG)
    assert answer.first.wait(60)
    killed = max(below) if victim == "vLLM's engine" else leaf.engine.pid
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(RequestError, match="engine has ended") as failed:
        answer.wait()
    assert failed.value.status == "UNAVAILABLE"
    assert leaf.observed.was_lost.wait(10)
    with pytest.raises(RequestError, match="shutting down"):
        leaf.submit("later", "Go on.")
    scrape.wait_until(lambda: not any(map(alive, {leaf.engine.pid, *below})), 60)
