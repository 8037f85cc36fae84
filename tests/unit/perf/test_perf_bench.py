"""Was it slower? Ratios now against ratios then."""

import json
import random

import pytest

from perf import bench
from perf.bench import Part, Result
from tests.support.engines import BuiltEngines


def verdict(now: Result, before: Result | None) -> bench.Verdict:
    return bench.Verdict("part", now, before)


BEFORE = Result(1.0, 0.95, 1.05)


@pytest.mark.parametrize(
    ("now", "slower"),
    [
        (Result(1.5, 1.4, 1.6), True),
        (Result(1.12, 1.1, 1.14), False),  # within what a shared machine does
        (Result(1.5, 1.0, 2.0), False),  # the rounds overlap
        (Result(0.5, 0.4, 0.6), False),
    ],
)
def test_slower_is_more_than_noise_and_without_overlap(now: Result, slower: bool) -> None:
    assert verdict(now, BEFORE).slower is slower


def test_a_new_part_is_no_regression_and_says_so() -> None:
    new = verdict(Result(9.0, 8.0, 10.0), None)
    assert not new.slower
    assert "| new |" in bench.markdown([new])
    assert "| 1.50× | SLOWER |" in bench.markdown([verdict(Result(1.5, 1.4, 1.6), BEFORE)])


def test_a_part_twice_the_yardstick_measures_two() -> None:
    part = Part("two", lambda: (bench.interpreter(), bench.interpreter()), bench.interpreter)
    assert 1.4 < bench.measure(part, 9).median < 2.8


@pytest.mark.parametrize(
    ("first", "longer", "slower"), [(1.0, 9.9, False), (1.6, 1.0, False), (1.1, 1.3, True), (1.6, 1.3, True)]
)
def test_a_part_that_looks_slower_is_judged_by_a_longer_measurement(
    first: float, longer: float, slower: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(part: Part, rounds: int) -> Result:
        median = first if rounds == 9 else longer
        return Result(median, median - 0.02, median + 0.02)

    monkeypatch.setattr(bench, "measure", measure)
    assert bench.judge(Part("part", int, int), BEFORE, 9).slower is slower


class BusyMachine:
    """Processor time of a machine whose cores are now fast, now slow, and whose caches others empty; seeded."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)
        self._now_s = 0.0
        self._slow = 1.0

    def process_time(self) -> float:
        self._now_s += 1e-4
        return self._now_s

    def work(self, seconds: float) -> None:
        if self._random.random() < 0.1:
            self._slow = self._random.uniform(1.0, 2.0)
        emptied = self._random.uniform(1.0, 1.5) if self._random.random() < 0.1 else 1.0
        self._now_s += seconds * self._slow * emptied * self._random.gauss(1.0, 0.03)


@pytest.mark.parametrize("seed", range(3))
def test_an_unchanged_part_passes_and_a_slowdown_of_three_tenths_is_found(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = BusyMachine(seed)
    monkeypatch.setattr(bench, "time", machine)
    part = Part("work", lambda: machine.work(0.2), lambda: machine.work(0.1))
    before = bench.measure(part, 45)
    unchanged = [bench.judge(part, before, 9).slower for _ in range(20)]
    slowed = [bench.judge(bench.planted(part, 1.3), before, 9).slower for _ in range(5)]
    assert unchanged == [False] * 20
    assert slowed == [True] * 5


def test_every_part_runs_and_has_a_stored_result(engines: BuiltEngines) -> None:
    stored = json.loads(bench.BASELINE.read_text())["parts"]
    parts = bench.parts(engines.engines)
    assert set(stored) == {part.name for part in parts}
    assert all(bench.measure(part, 2).median > 0 for part in parts)
