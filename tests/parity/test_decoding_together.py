"""In-flight batching on a real decoder graph: an answer does not depend on what is decoded beside it."""

from collections.abc import Iterator

import numpy as np
import pytest

from af3.llm.decoder import Decoder
from af3.llm.scheduler import Scheduler
from af3.llm.sequence import Generation
from tests.support.echo_decoder import WAIT_S, Heard, generation
from tests.support.engines import BuiltEngines

ROWS = 3
QUEUE = 6


@pytest.fixture(scope="module")
def decoder(engines: BuiltEngines) -> Decoder:
    return Decoder(engines.engines / "llm", ROWS, max_sequence_tokens=512, threads=1)


@pytest.fixture
def scheduler(decoder: Decoder) -> Iterator[Scheduler]:
    running = Scheduler(decoder, max_queue=QUEUE, prefill_tokens=16)
    yield running
    running.close()


def run(scheduler: Scheduler, *generations: Generation) -> list[list[int]]:
    listeners = [Heard() for _ in generations]
    for one, listener in zip(generations, listeners, strict=True):
        scheduler.submit(one, listener)
    return [listener.answer() for listener in listeners]


def prompt(seed: int, size: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 250, size).tolist()


def test_answers_do_not_depend_on_the_rest_of_the_batch(scheduler: Scheduler) -> None:
    asked = [generation(f"r{place}", prompt(place, 5 + 17 * place), 10 + 9 * place) for place in range(6)]
    together = run(scheduler, *asked)
    alone = [run(scheduler, one)[0] for one in asked]
    assert together == alone
    assert [len(answer) for answer in together] == [one.max_new_tokens for one in asked]


def test_a_seeded_draw_does_not_depend_on_the_rest_of_the_batch(scheduler: Scheduler) -> None:
    sampled = generation("s", prompt(1, 30), temperature=1.2, top_k=0, seed=5)
    (alone,) = run(scheduler, sampled)
    among = run(scheduler, generation("x", prompt(2, 40)), sampled, generation("y", prompt(3, 8), 7))[1]
    assert alone == among
    assert alone != run(scheduler, generation("s", prompt(1, 30), temperature=1.2, top_k=0, seed=6))[0]


def test_reading_a_prompt_in_parts_changes_nothing(decoder: Decoder, scheduler: Scheduler) -> None:
    whole = Scheduler(decoder, max_queue=1, prefill_tokens=512)
    asked = generation("long", prompt(4, 200))
    try:
        expected = run(whole, asked)
    finally:
        whole.close()
    assert run(scheduler, asked) == expected


def test_reading_in_smaller_parts_beside_others_changes_nothing(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("af3.llm.scheduler.PREFILL_PAIRS", 16)
    monkeypatch.setattr("af3.llm.scheduler.LEAST_PREFILL", 2)
    first = Heard()
    scheduler.submit(generation("decoding", prompt(1, 20), tokens=400), first)
    assert first.started.wait(WAIT_S)
    beside = run(scheduler, generation("beside", prompt(2, 20), tokens=2))
    scheduler.stop("decoding")
    first.answer()
    assert beside == run(scheduler, generation("beside", prompt(2, 20), tokens=2))
