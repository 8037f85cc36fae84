"""`make bench`: finds parts that got slower than at the last release, in half a minute and without a server.

Each part is timed in turn with a reference that our changes cannot affect, so that a slow or busy machine slows both;
the ratio is stored and compared. A part that looks slower is timed again, for longer and in a new process: it is
called slower only if it is slower in all of them. The exit code is 1 then. Figures of another kind of processor
say nothing here, and no part is judged by them.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from perf.bench_parts import PARTS, in_new_process
from perf.report import table
from perf.sweep import processor

BASELINE = Path(__file__).with_name("baseline.json")
ROUNDS = 9
LEAST_SLOWER = 1.2  # smaller changes are noise: beside a test run one of 180 unchanged verdicts reached 1.15
SUSPICIOUS = 1.07  # a part that looks slower than this is measured again
LONGER = 3  # times as many rounds: a busy moment of the machine does not last
PROCESSES = 5  # that a part is measured in, at most: one is slow as a whole now and then, by up to a quarter
VECTORS = ("amx_tile", "avx512f", "avx2", "asimd")  # what the engines' kernels are chosen by, widest first

Measure = Callable[[int], Sequence[float]]  # rounds → ratios, from a new process


@dataclass(frozen=True)
class Result:
    """Time of a part divided by that of its reference: median and interquartile range over the rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """A part now and at the last release (None when it is new, or unknown on this processor)."""

    name: str
    now: Result
    before: Result | None

    @property
    def change(self) -> float:
        return 1.0 if self.before is None else self.now.median / self.before.median

    @property
    def slower(self) -> bool:
        """Slower than the general noise, and even the quicker rounds are slower than the usual one was."""
        return self.before is not None and self.change > LEAST_SLOWER and self.now.low > self.before.median


def result(ratios: Sequence[float]) -> Result:
    low, median, high = statistics.quantiles(ratios, n=4)
    return Result(median, low, high)


def judge(name: str, measure: Measure, before: Result | None, rounds: int) -> Verdict:
    """Compare a part with the last release, by the process in which it looked best."""
    best = Verdict(name, result(measure(rounds)), before)
    for _ in range(PROCESSES - 1):
        if best.change <= SUSPICIOUS:
            break
        again = Verdict(name, result(measure(LONGER * rounds)), before)
        best = min(best, again, key=lambda verdict: verdict.change)
    return best


def kept(measure: Measure, rounds: int) -> Result:
    """What to store of a release: the best of as many processes as judge it."""
    return min((result(measure(rounds)) for _ in range(PROCESSES)), key=lambda one: one.median)


def markdown(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        now, before = verdict.now, verdict.before
        word = "no figure before" if before is None else "SLOWER" if verdict.slower else "as before"
        rows.append(
            [
                verdict.name,
                f"{now.median:.3f} ({now.low:.3f}–{now.high:.3f})",
                "–" if before is None else f"{before.median:.3f} ({before.low:.3f}–{before.high:.3f})",
                f"{verdict.change:.2f}×",
                word,
            ]
        )
    return table(["part, in yardsticks", "now", "last release", "time", "verdict"], rows)


def kind(cpu_info: Path = Path("/proc/cpuinfo")) -> str:
    """The kind of this machine's processor, which decides what ratio of part and yardstick is normal."""
    flags = cpu_info.read_text().split()
    vectors = next((name for name in VECTORS if name in flags), "no vectors")
    return f"{processor() or platform.machine()}, {vectors}"


def read(baseline: Path) -> dict[str, dict[str, Result]]:
    """Kind of processor → part → its figures at the last release; empty without a file."""
    if not baseline.is_file():
        return {}
    found = json.loads(baseline.read_text())
    return {cores: {part: Result(**one) for part, one in parts.items()} for cores, parts in found.items()}


def save(baseline: Path, here: str, parts: dict[str, Result]) -> None:
    """Store the figures of this kind of processor; those of others stay."""
    known = {**read(baseline), here: parts}
    plain = {cores: {name: asdict(one) for name, one in those.items()} for cores, those in known.items()}
    baseline.write_text(json.dumps(plain, indent=1) + "\n")
    print(f"kept in {baseline} for {here}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", type=Path, default=Path("engines/cpu"), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="default: %(default)s")
    parser.add_argument("--save", action="store_true", help="store the result as the new release's")
    parser.add_argument(
        "--plant",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="slow every part down, to see that it is noticed",
    )
    arguments = parser.parse_args()

    def measured(name: str) -> Measure:
        return lambda rounds: in_new_process(name, arguments.engines, rounds, arguments.plant)

    here = kind()
    if arguments.save:
        save(arguments.baseline, here, {name: kept(measured(name), arguments.rounds) for name in PARTS})
        return 0
    known = read(arguments.baseline)
    before = known.get(here, {})
    verdicts = [judge(name, measured(name), before.get(name), arguments.rounds) for name in PARTS]
    print(markdown(verdicts))
    if not before:
        print(
            f"\nnothing is judged: {arguments.baseline} has figures of {', '.join(known) or 'no machine'}, this is"
            f" {here}. Run `python -m perf.bench --save --baseline FILE` on the last release, then this with"
            " --baseline FILE"
        )
        return 0
    slower = [verdict for verdict in verdicts if verdict.slower]
    print("\nslower: " + (", ".join(f"{one.name} ({one.change:.2f}×)" for one in slower) or "nothing"))
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
