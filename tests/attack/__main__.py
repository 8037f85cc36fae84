"""python -m tests.attack              every attack against a fresh server; a table, exit code 1 when one was not held
python -m tests.attack --quick      what fits in seconds, with smaller numbers
python -m tests.attack --only NAME  those whose name holds it (repeatable)
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tests.attack import by_bytes, by_key, by_kill, by_number, by_slowness
from tests.attack.scene import NOISE_S, Attack, Honest, Scene, generate, raise_own_limit, worst
from tests.faults import LAUNCHER, Launched, serving_folder
from tests.support import scrape

ATTACKS = [
    *by_bytes.ATTACKS,
    *by_number.ATTACKS,
    *by_slowness.ATTACKS,
    *by_key.ATTACKS,
    *by_kill.ATTACKS,
]
QUIET_S = 5.0
MORE_FILES = 12  # five open with the first large request; a busy machine closes connections late
HEAD = "| attack | fault | what happened | honest p99 around it → during it, s | left | load | held |"


@dataclass
class Outcome:
    """What an attack came to. `times_s`: of the honest clients during it."""

    attack: Attack
    said: str
    left: str
    problems: list[str]
    times_s: list[float]

    def row(self, around_s: list[float]) -> str:
        """around_s: times of the honest just before and just after it, on as busy a machine."""
        quiet_s, during_s = worst(around_s), worst(self.times_s)
        slow = during_s > max(2 * quiet_s, quiet_s + NOISE_S) and not self.attack.kills
        pace = f"{quiet_s:.2f} → {during_s:.2f}{' (over twice)' if slow else ''}"
        verdict = "no: " + "; ".join(self.problems) if self.problems else "yes"
        load = f"{os.getloadavg()[0]:.0f}"
        return f"| {self.attack.name} | {self.attack.fault} | {self.said} | {pace} | {self.left} | {load} | {verdict} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    given = parser.parse_args()
    named = [one for one in ATTACKS if any(word in one.name for word in given.only)]
    chosen = named or [one for one in ATTACKS if one.quick or not given.quick]
    if given.only and not named:
        parser.error(f"no attack is called {' or '.join(given.only)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as by Ctrl-C: the server ends too
    raise_own_limit()
    print(HEAD + "\n" + "|---" * 7 + "|", flush=True)
    held = [row.endswith("yes |") for row in rows(chosen, given.quick)]
    return 0 if held and all(held) else 1


def rows(attacks: Sequence[Attack], quick: bool) -> Iterator[str]:
    """Those that need the same server share one."""

    def kind(one: Attack) -> tuple[int, tuple[str, ...], float]:
        return one.file_handles or 0, one.server, one.window_s

    for (handles, options, window_s), group in groupby(sorted(attacks, key=kind), key=kind):
        with served(options, handles, quick, window_s) as scene:
            code, expected = generate(scene, key=scene.keys.get("honest"))
            assert code == 200, expected
            before_s = quiet(scene, expected)
            for attack in group:
                outcome = played(scene, attack, expected)
                after_s = quiet(scene, expected)
                row = outcome.row(before_s + after_s)
                print(row, flush=True)
                yield row
                before_s = after_s


def quiet(scene: Scene, expected: str) -> list[float]:
    """Times of the honest clients while nobody attacks."""
    honest = Honest(scene, expected=expected)
    with honest.asking():
        time.sleep(QUIET_S)
    return honest.times_s


@contextmanager
def served(
    options: tuple[str, ...] = (), handles: int = 0, quick: bool = True, window_s: float = 0.0
) -> Iterator[Scene]:
    """A launched server. handles: how many file handles it may have; window_s: its encoder takes so long."""
    with tempfile.TemporaryDirectory(prefix="af3-attack-") as name:
        folder = serving_folder(Path(name))
        keys = by_key.key_file(folder)[1] if options else {}
        words = [word.replace("{folder}", name) for word in options]
        prefix = ("prlimit", f"--nofile={handles}:{handles}") if handles else ()
        module = LAUNCHER
        if window_s:
            prefix, module = (*prefix, "env", f"SLOW_WINDOW_S={window_s:g}"), "tests.attack.slow_launch"
        server = Launched(folder, *words, prefix=prefix, module=module)
        try:
            scene = Scene(server, quick, keys)
            # What opens with a first request is not left behind by an attack.
            code, said = generate(scene, key=keys.get("honest"))
            assert code == 200, said
            yield scene
        finally:
            server.stop()


def played(scene: Scene, attack: Attack, expected: str) -> Outcome:
    honest, restarts, files = Honest(scene, expected=expected), scene.restarts(), scene.files()
    problems = []
    try:
        with honest.asking():
            said = attack.play(scene)
    except AssertionError as error:
        said = f"not held: {error}"
        problems.append(said)
    try:
        scrape.wait_until(lambda: scene.in_flight() == 0, 60)
        scrape.wait_until(lambda: scene.files() <= files + MORE_FILES, 60)
    except AssertionError:
        problems.append("left behind")
    left = f"{scene.in_flight():g} in flight, {scene.files() - files:+d} handles"
    if not attack.kills:
        if scene.restarts() > restarts:
            problems.append("a restart")
        if honest.errors:
            problems.append(f"{len(honest.errors)} honest failed: {honest.errors[0][:80]}")
    return Outcome(attack, said, left, problems, honest.times_s)


if __name__ == "__main__":
    sys.exit(main())
