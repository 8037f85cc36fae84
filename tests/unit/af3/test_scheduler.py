"""In-flight batching on a real decoder graph: rows, queue, stops and failures."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from af3.errors import RequestError
from af3.llm.decoder import Decoder
from af3.llm.sampling import SamplingSettings
from af3.llm.scheduler import LEAST_PREFILL, PREFILL_PAIRS, Generation, Scheduler, shared_part
from tests.support.engines import BuiltEngines

ROWS = 3
QUEUE = 6
WAIT_S = 30


class Heard:
    """Listener that keeps what it hears; `pause` holds the scheduler at a token."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.error: Exception | None = None
        self.ended = threading.Event()
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.gone = False

    def tokens(self, ids: Sequence[int], final: bool) -> None:
        self.ids += ids
        self.started.set()
        self.go_on.wait(WAIT_S)
        if final:
            self.ended.set()

    def failed(self, error: Exception) -> None:
        self.error = error
        self.ended.set()

    def cancelled(self) -> bool:
        return self.gone

    def answer(self) -> list[int]:
        assert self.ended.wait(WAIT_S)
        return self.ids


def generation(name: str, prompt: Sequence[int], tokens: int = 20, **sampling: float) -> Generation:
    settings = SamplingSettings(**sampling)  # type: ignore[arg-type]
    return Generation(name, np.array(prompt, np.int32), None, tokens, None, (), settings)


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


def test_a_long_prompt_is_read_in_ever_smaller_parts_while_others_decode() -> None:
    before = (0, 512, 4_000, 14_000)
    parts = [shared_part(256, read) for read in before]
    assert parts == sorted(parts, reverse=True) and parts[0] == 256 > parts[-1]
    assert all(part * (read + part) <= PREFILL_PAIRS for part, read in zip(parts, before, strict=True))
    assert shared_part(256, 10**6) == LEAST_PREFILL


def test_only_a_prompt_that_delays_others_is_read_in_smaller_parts(
    decoder: Decoder, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []
    read = decoder.prefill

    def recorded(row: int, embeddings: np.ndarray, past: int) -> np.ndarray:
        sizes.append((row, len(embeddings)))
        return read(row, embeddings, past)

    monkeypatch.setattr(decoder, "prefill", recorded)
    monkeypatch.setattr("af3.llm.scheduler.PREFILL_PAIRS", 16)
    monkeypatch.setattr("af3.llm.scheduler.LEAST_PREFILL", 2)
    first = Heard()
    scheduler.submit(generation("decoding", prompt(1, 20), tokens=400), first)
    assert first.started.wait(WAIT_S)
    alone, sizes[:] = list(sizes), []
    beside = run(scheduler, generation("beside", prompt(2, 20), tokens=2))
    scheduler.stop("decoding")
    first.answer()
    assert alone == [(0, 16), (0, 4)]
    assert {row for row, _ in sizes} == {1} and max(size for _, size in sizes) == 2
    assert beside == run(scheduler, generation("beside", prompt(2, 20), tokens=2))


def test_a_full_queue_is_a_clear_error(scheduler: Scheduler) -> None:
    first = Heard()
    first.go_on.clear()
    scheduler.submit(generation("first", prompt(0, 4)), first)
    assert first.started.wait(WAIT_S)  # the scheduler is held inside its turn
    waiting = [Heard() for _ in range(QUEUE)]
    for place, listener in enumerate(waiting):
        scheduler.submit(generation(f"w{place}", prompt(place, 4), 3), listener)
    with pytest.raises(RequestError, match="queue is full") as refused:
        scheduler.submit(generation("late", prompt(0, 4)), Heard())
    assert refused.value.status == "UNAVAILABLE"
    first.go_on.set()
    assert all(len(listener.answer()) == 3 for listener in waiting)


def test_an_id_in_use_is_refused(scheduler: Scheduler) -> None:
    first = Heard()
    first.go_on.clear()
    scheduler.submit(generation("same", prompt(0, 4)), first)
    with pytest.raises(RequestError, match="in use") as refused:
        scheduler.submit(generation("same", prompt(0, 4)), Heard())
    assert refused.value.status == "ALREADY_EXISTS"
    first.go_on.set()
    first.answer()


def test_a_stopped_request_ends_and_frees_its_row_for_the_next(scheduler: Scheduler) -> None:
    endless = [generation(f"e{place}", prompt(place, 6), 400) for place in range(ROWS)]
    listeners = [Heard() for _ in endless]
    for one, listener in zip(endless, listeners, strict=True):
        scheduler.submit(one, listener)
    scheduler.submit(generation("next", prompt(9, 6), 5), following := Heard())
    assert all(listener.started.wait(WAIT_S) for listener in listeners)
    scheduler.stop("e1")
    assert len(listeners[1].answer()) < 400
    assert len(following.answer()) == 5
    assert [len(listeners[place].answer()) for place in (0, 2)] == [400, 400]


def test_a_client_that_left_is_noticed(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("af3.llm.scheduler.CANCEL_CHECK_S", 0.0)
    listener = Heard()
    scheduler.submit(generation("left", prompt(0, 6), 400), listener)
    assert listener.started.wait(WAIT_S)
    listener.gone = True
    assert len(listener.answer()) < 400


def test_a_deadline_ends_who_waits_and_nobody_who_runs(scheduler: Scheduler) -> None:
    kept = [Heard() for _ in range(ROWS)]
    for place, listener in enumerate(kept):
        listener.go_on.clear()  # the scheduler waits in the first token
        scheduler.submit(replace(generation(f"kept{place}", prompt(place, 6), 400), timeout_s=60), listener)
    late = Heard()
    scheduler.submit(replace(generation("late", prompt(0, 6), 400), timeout_s=0.0), late)
    for listener in kept:
        listener.go_on.set()
    assert late.answer() == []
    assert isinstance(late.error, RequestError)
    assert late.error.status == "DEADLINE_EXCEEDED"
    assert [len(listener.answer()) for listener in kept] == [400] * ROWS
    assert len(run(scheduler, generation("late", prompt(0, 4), 5))[0]) == 5


def test_a_request_that_cannot_be_embedded_fails_alone(scheduler: Scheduler) -> None:
    bad = generation("bad", [0], 5)
    table = np.zeros((1, 3), np.float32)
    with pytest.raises(RequestError, match="prompt_embedding_table"):
        scheduler.submit(Generation("bad", bad.input_ids, table, 5, None, (), SamplingSettings()), Heard())
    assert len(run(scheduler, generation("good", prompt(0, 4), 5))[0]) == 5


@pytest.mark.parametrize(
    ("ids", "tokens", "cause"),
    [
        ([], 5, "empty"),
        ([10_000], 5, "outside"),
        ([-1], 5, "outside"),
        ([1] * 500, 20, "512"),
        ([1], 0, "at least 1"),
    ],
)
def test_what_would_break_the_batch_is_refused(
    scheduler: Scheduler, ids: list[int], tokens: int, cause: str
) -> None:
    with pytest.raises(RequestError, match=cause):
        scheduler.submit(generation("bad", ids, tokens), Heard())


def test_a_decoder_that_fails_fails_its_requests_and_serves_the_next(
    decoder: Decoder, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(decoder, "decode", lambda ids, lengths: 1 / 0)
        listener = Heard()
        scheduler.submit(generation("unlucky", prompt(0, 4)), listener)
        listener.answer()
        assert isinstance(listener.error, ZeroDivisionError)
    assert len(run(scheduler, generation("lucky", prompt(0, 4), 5))[0]) == 5


def test_closing_fails_what_is_in_flight(decoder: Decoder) -> None:
    closing = Scheduler(decoder, max_queue=4, prefill_tokens=16)
    listener = Heard()
    closing.submit(generation("open", prompt(0, 6), 400), listener)
    assert listener.started.wait(WAIT_S)
    closing.close()
    assert isinstance(listener.error, RequestError)
