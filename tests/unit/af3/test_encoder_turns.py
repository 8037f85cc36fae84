"""Requests take turns at one encoder: short ones wait for little, long ones are never left out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from af3.encoder.embedding_cache import CachedEncoder
from af3.encoder.interface import Window
from af3.encoder.turns import Turns
from af3.errors import RequestError

WAIT_S = 30
FULL = 480_000


class GatedEncoder:
    """One run per window; a window's embedding is its first sample. `go_on` cleared holds it inside a run.

    `runs`: the first sample of each window, in the order of the runs. `after`: called after each run.
    """

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.inside = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.after: Callable[[int], None] = lambda run: None
        self.fails: set[int] = set()

    def parts(self, windows: Sequence[Window]) -> list[list[int]]:
        return [[index] for index, window in enumerate(windows) if len(window.samples) > 320]

    def encode(self, windows: Sequence[Window]) -> list[np.ndarray]:
        return [self._encode(window) for window in windows]

    def _encode(self, window: Window) -> np.ndarray:
        if len(window.samples) <= 320:
            return np.zeros((0, 1), np.float32)
        self.inside.set()
        assert self.go_on.wait(WAIT_S)
        name = int(window.samples[0])
        if name in self.fails:
            raise MemoryError("planted")
        self.runs.append(name)
        self.after(name)
        return np.full((1, 1), name, np.float32)

    def join(self, embeddings: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(embeddings)[None]


class Result:
    """`noted`: what `note` said when the table came."""

    def __init__(self, note: Callable[[], int] = lambda: 0) -> None:
        self.note, self.noted = note, 0
        self.table: np.ndarray | None = None
        self.error: Exception | None = None
        self.ended = threading.Event()

    def encoded(self, table: np.ndarray) -> None:
        self.table, self.noted = table, self.note()
        self.ended.set()

    def failed(self, error: Exception) -> None:
        self.error = error
        self.ended.set()

    def rows(self) -> list[int]:
        assert self.ended.wait(WAIT_S)
        assert self.error is None, self.error
        assert self.table is not None
        return [int(row) for row in self.table[0, :, 0]]

    def failure(self) -> Exception:
        assert self.ended.wait(WAIT_S)
        assert self.error is not None
        return self.error


@pytest.fixture
def encoder() -> GatedEncoder:
    return GatedEncoder()


@pytest.fixture
def turns(encoder: GatedEncoder) -> Iterator[Turns]:
    made = Turns(CachedEncoder(encoder, "engine", 1 << 20))
    yield made
    encoder.go_on.set()
    made.close()


def clip(name: int, windows: int, samples: int = 1600) -> list[Window]:
    """Windows whose embeddings are 1000 × name + 0, 1, 2 …"""
    return [Window(np.full(samples, 1000 * name + place, np.float32), place) for place in range(windows)]


def rows(name: int, windows: int) -> list[int]:
    return [1000 * name + place for place in range(windows)]


def submit(turns: Turns, name: int, windows: int) -> Result:
    result = Result()
    turns.submit(str(name), clip(name, windows), result)
    return result


def hold(turns: Turns, encoder: GatedEncoder, name: int, windows: int) -> Result:
    """Submit a clip and wait until its first window is being encoded, and stays so."""
    encoder.go_on.clear()
    held = submit(turns, name, windows)
    assert encoder.inside.wait(WAIT_S)
    return held


def of_others(encoder: GatedEncoder, name: int) -> int:
    """Windows of others that were encoded before the last one of `name`."""
    last = max(place for place, run in enumerate(encoder.runs) if run // 1000 == name)
    return sum(run // 1000 != name for run in encoder.runs[:last])


def test_a_short_clip_waits_for_at_most_two_windows_of_a_long_one(
    turns: Turns, encoder: GatedEncoder
) -> None:
    long = hold(turns, encoder, 1, 20)
    short = submit(turns, 2, 1)
    encoder.go_on.set()
    assert short.rows() == rows(2, 1)
    assert long.rows() == rows(1, 20)
    assert of_others(encoder, 2) <= 2


def test_a_short_clip_waits_for_at_most_two_windows_of_many_long_ones(
    turns: Turns, encoder: GatedEncoder
) -> None:
    longs = [hold(turns, encoder, 1, 20), *(submit(turns, name, 20) for name in range(2, 12))]
    short = submit(turns, 50, 1)
    encoder.go_on.set()
    assert short.rows() == rows(50, 1)
    assert [long.rows() for long in longs] == [rows(name, 20) for name in range(1, 12)]
    assert of_others(encoder, 50) <= 2


def test_short_clips_without_end_never_starve_a_long_one(turns: Turns, encoder: GatedEncoder) -> None:
    shorts = iter(range(100, 300))

    def one_more(run: int) -> None:
        if run >= 100_000 and not long.ended.is_set():
            submit(turns, next(shorts), 1)

    encoder.after = one_more
    long = hold(turns, encoder, 1, 20)
    for _ in range(3):
        submit(turns, next(shorts), 1)
    encoder.go_on.set()
    assert long.rows() == rows(1, 20)
    assert of_others(encoder, 1) <= 60  # three a window


def test_of_two_long_clips_both_move_on(turns: Turns, encoder: GatedEncoder) -> None:
    first = hold(turns, encoder, 1, 20)
    second = submit(turns, 2, 20)
    encoder.go_on.set()
    assert first.rows() == rows(1, 20) and second.rows() == rows(2, 20)
    half = [run // 1000 for run in encoder.runs[:20]]
    assert min(half.count(1), half.count(2)) >= 9


def test_a_stopped_clip_costs_the_window_at_hand_and_no_more(turns: Turns, encoder: GatedEncoder) -> None:
    stopped = hold(turns, encoder, 1, 20)
    other = submit(turns, 2, 2)
    turns.stop("1")
    turns.stop("unknown")
    encoder.go_on.set()
    error = stopped.failure()
    assert isinstance(error, RequestError) and error.status == "CANCELLED"
    assert other.rows() == rows(2, 2)
    assert encoder.runs == [*rows(1, 1), *rows(2, 2)]


def test_nobody_fails_for_another(turns: Turns, encoder: GatedEncoder) -> None:
    encoder.fails = {2001}
    good, bad = hold(turns, encoder, 1, 3), submit(turns, 2, 3)
    encoder.go_on.set()
    assert isinstance(bad.failure(), MemoryError)
    assert good.rows() == rows(1, 3)
    assert submit(turns, 3, 2).rows() == rows(3, 2)


def test_a_clip_heard_before_waits_for_the_window_at_hand_alone(turns: Turns, encoder: GatedEncoder) -> None:
    assert submit(turns, 7, 20).rows() == rows(7, 20)
    encoder.runs.clear()
    encoder.inside.clear()
    long = hold(turns, encoder, 1, 20)
    again = Result(lambda: len(encoder.runs))
    turns.submit("again", clip(7, 20), again)
    encoder.go_on.set()
    assert again.rows() == rows(7, 20)
    assert again.noted == 1
    assert long.rows() == rows(1, 20)
    assert encoder.runs == rows(1, 20)


def test_two_that_ask_about_one_clip_have_it_encoded_once(turns: Turns, encoder: GatedEncoder) -> None:
    first = hold(turns, encoder, 1, 10)
    second = Result()
    turns.submit("second", clip(1, 10), second)
    encoder.go_on.set()
    assert first.rows() == second.rows() == rows(1, 10)
    assert sorted(encoder.runs) == rows(1, 10)


def test_windows_without_a_token_have_no_turn(turns: Turns, encoder: GatedEncoder) -> None:
    result = Result()
    mixed = [*clip(1, 1), *clip(9, 1, samples=320), *clip(2, 1)]
    turns.submit("mixed", mixed, result)
    assert result.rows() == [1000, 2000]
    nothing = Result()
    turns.submit("nothing", clip(9, 1, samples=320), nothing)
    assert nothing.rows() == []
    assert encoder.runs == [1000, 2000]


def test_the_end_of_the_step_fails_all_that_wait(encoder: GatedEncoder) -> None:
    busy: list[bool] = []
    turns = Turns(CachedEncoder(encoder, "engine", 0), busy.append)
    first = hold(turns, encoder, 1, 3)
    second = submit(turns, 2, 1)
    closing = threading.Thread(target=turns.close)
    closing.start()
    while not closed(turns):
        pass
    encoder.go_on.set()
    closing.join(WAIT_S)
    for result in (first, second):
        assert "shutting down" in str(result.failure())
    assert encoder.runs == rows(1, 1)
    assert busy[0] is True


def closed(turns: Turns) -> bool:
    try:
        submit(turns, 3, 1)
    except RequestError as error:
        assert "shutting down" in error.message
        return True
    return False
