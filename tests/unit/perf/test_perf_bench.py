"""Was it slower? Ratios now against ratios then."""

import json

import pytest

from perf import bench
from perf.bench import Part, Result
from tests.support.engines import BuiltEngines


def verdict(now: Result, before: Result | None) -> bench.Verdict:
    return bench.compare({"part": now}, {} if before is None else {"part": before})[0]


BEFORE = Result(1.0, 0.95, 1.05)


@pytest.mark.parametrize(
    ("now", "slower"),
    [
        (Result(1.5, 1.4, 1.6), True),
        (Result(1.2, 1.15, 1.25), False),  # within what a shared machine does
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


def test_every_part_runs_and_has_a_stored_result(engines: BuiltEngines) -> None:
    stored = json.loads(bench.BASELINE.read_text())["parts"]
    parts = bench.parts(engines.engines)
    assert set(stored) == {part.name for part in parts}
    assert all(bench.measure(part, 2).median > 0 for part in parts)
