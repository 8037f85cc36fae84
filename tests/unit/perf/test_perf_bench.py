"""Was it slower? Ratios now against ratios then."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from perf import bench, bench_parts
from perf.bench import Result
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
def test_slower_is_more_than_noise_and_in_most_rounds(now: Result, slower: bool) -> None:
    assert verdict(now, BEFORE).slower is slower


def test_a_new_part_is_no_regression_and_says_so() -> None:
    new = verdict(Result(9.0, 8.0, 10.0), None)
    assert not new.slower
    assert "| no figure before |" in bench.markdown([new])
    assert "| 1.50× | SLOWER |" in bench.markdown([verdict(Result(1.5, 1.4, 1.6), BEFORE)])


def test_a_part_twice_the_yardstick_measures_two() -> None:
    def twice() -> None:
        bench_parts.interpreter()
        bench_parts.interpreter()

    assert 1.4 < bench.result(bench_parts.ratios(twice, bench_parts.interpreter, 9)).median < 2.8


@pytest.mark.parametrize(
    ("processes", "slower"),
    [
        ([1.0], False),
        ([1.3, 1.0], False),  # the whole process was slow, not the part
        ([1.3, 1.2, 1.25, 1.3, 1.0], False),
        ([1.1, 1.3, 1.2, 1.12, 1.3], False),  # the best is within the noise
        ([1.3, 1.28, 1.25, 1.3, 1.26], True),
    ],
)
def test_a_part_that_looks_slower_is_judged_by_its_best_process(processes: list[float], slower: bool) -> None:
    left, asked = list(processes), []

    def measure(rounds: int) -> list[float]:
        asked.append(rounds)
        return [left.pop(0)] * rounds

    assert bench.judge("part", measure, BEFORE, 9).slower is slower
    assert not left
    assert asked == [9] + [27] * (len(processes) - 1)


def test_the_best_process_is_kept_of_a_release() -> None:
    medians = iter([1.3, 1.1, 1.2, 1.4, 1.2])
    assert bench.kept(lambda rounds: [next(medians)] * rounds, 9).median == 1.1


class BusyMachine:
    """Processor time of a machine whose cores are now fast, now slow, and whose caches others empty; seeded.

    A process in four is slow as a whole, by up to 1.3×, as one was in ten on a real machine.
    """

    def __init__(self, seed: int):
        self._random = random.Random(seed)
        self._now_s = 0.0
        self._slow = 1.0

    def process_time(self) -> float:
        self._now_s += 1e-4
        return self._now_s

    def process(self, plant: float) -> Callable[[int], list[float]]:
        """A part of 0.2 s beside a yardstick of 0.1 s."""

        def measure(rounds: int) -> list[float]:
            process = self._random.uniform(1.0, 1.3) if self._random.random() < 0.25 else 1.0
            part = bench_parts.planted(lambda: self._work(0.2 * process), plant)
            return bench_parts.ratios(part, lambda: self._work(0.1), rounds)

        return measure

    def spend(self, seconds: float) -> None:
        self._now_s += seconds

    def _work(self, seconds: float) -> None:
        if self._random.random() < 0.1:
            self._slow = self._random.uniform(1.0, 2.0)
        emptied = self._random.uniform(1.0, 1.5) if self._random.random() < 0.1 else 1.0
        self.spend(seconds * self._slow * emptied * self._random.gauss(1.0, 0.03))


@pytest.mark.parametrize("seed", range(5))
def test_an_unchanged_part_passes_and_a_slowdown_of_three_tenths_is_found(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = BusyMachine(seed)
    monkeypatch.setattr(bench_parts, "time", machine)
    before = bench.kept(machine.process(1.0), 9)
    unchanged = [bench.judge("work", machine.process(1.0), before, 9).slower for _ in range(20)]
    slowed = [bench.judge("work", machine.process(1.3), before, 9).slower for _ in range(5)]
    assert unchanged == [False] * 20
    assert slowed == [True] * 5


def test_every_part_runs_and_has_a_stored_result(engines: BuiltEngines) -> None:
    stored = bench.read(bench.BASELINE)
    assert stored and all(set(parts) == set(bench_parts.PARTS) for parts in stored.values())
    for part in bench_parts.PARTS.values():
        assert min(bench_parts.ratios(part.make(engines.engines), part.yardstick, 2)) > 0


def test_a_part_is_measured_in_a_process_of_its_own(engines: BuiltEngines) -> None:
    assert len(bench_parts.in_new_process("decode, 1 stream, 8 tokens", engines.engines, 3, 1.0)) == 3
    with pytest.raises(subprocess.CalledProcessError):
        bench_parts.in_new_process("no part", engines.engines, 3, 1.0)


def test_figures_are_kept_by_kind_of_processor_and_those_of_others_stay(tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    assert bench.read(baseline) == {}
    bench.save(baseline, "one, avx2", {"part": BEFORE})
    bench.save(baseline, "other, avx512f", {"part": Result(2.0, 1.9, 2.1)})
    bench.save(baseline, "one, avx2", {"part": Result(3.0, 2.9, 3.1)})
    assert bench.read(baseline) == {
        "one, avx2": {"part": Result(3.0, 2.9, 3.1)},
        "other, avx512f": {"part": Result(2.0, 1.9, 2.1)},
    }


@pytest.mark.parametrize(
    ("flags", "widest"), [("sse2 avx2 avx512f", "avx512f"), ("sse2 avx2", "avx2"), ("sse2", "no vectors")]
)
def test_the_kind_of_processor_names_what_kernels_are_chosen_by(
    flags: str, widest: str, tmp_path: Path
) -> None:
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text(f"flags : {flags}\n")
    assert bench.kind(cpu_info).endswith(f", {widest}")


@pytest.mark.parametrize(
    ("before", "code", "said"), [(1.0, 1, "slower: one (3.00×)"), (3.0, 0, "slower: nothing")]
)
def test_the_exit_code_says_slower(
    before: float,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    bench.save(tmp_path / "here.json", bench.kind(), {"one": Result(before, before, before)})
    monkeypatch.setattr(bench, "PARTS", {"one": None})
    monkeypatch.setattr(bench, "in_new_process", lambda name, engines, rounds, plant: [3.0] * rounds)
    monkeypatch.setattr("sys.argv", ["bench", "--baseline", str(tmp_path / "here.json")])
    assert bench.main() == code
    assert said in capsys.readouterr().out


def test_no_part_is_judged_by_another_kind_of_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    bench.save(tmp_path / "other.json", "another, avx2", {"one": BEFORE})
    monkeypatch.setattr(bench, "PARTS", {"one": None})
    monkeypatch.setattr(bench, "in_new_process", lambda name, engines, rounds, plant: [9.0] * rounds)
    monkeypatch.setattr("sys.argv", ["bench", "--baseline", str(tmp_path / "other.json")])
    assert bench.main() == 0
    assert "nothing is judged: " in (said := capsys.readouterr().out)
    assert "another, avx2" in said
    assert "--save" in said


def test_of_short_bits_the_quickest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = BusyMachine(0)
    monkeypatch.setattr(bench_parts, "time", machine)
    taken_s = iter([9.0, 1.0] + [0.3, 1.0, 0.2, 0.1, 0.9, 0.4])  # the warm-up's, then a round's, in turns

    def bit() -> None:
        machine.spend(next(taken_s))

    assert bench_parts.ratios(bit, bit, 0) == []
    assert bench_parts._ratio(bit, bit, 3) == pytest.approx(0.2 / 0.1, rel=1e-2)
