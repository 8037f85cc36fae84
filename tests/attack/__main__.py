"""python -m tests.attack              every attack against a fresh server; a table, exit code 1 when one was not held
python -m tests.attack --quick      what fits in seconds, with smaller numbers
python -m tests.attack --only NAME  those whose name holds it
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from tests.attack import by_bytes, by_key, by_kill, by_number, by_slowness
from tests.attack.scene import NOISE_S, Attack, Honest, Scene, generate, raise_own_limit
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
HEAD = "| attack | fault | what happened | honest p99 quiet → during, s | left | held |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    chosen = [
        one for one in ATTACKS if given.only in one.name and (one.quick or not given.quick or given.only)
    ]
    raise_own_limit()
    print(HEAD + "\n" + "|---" * 6 + "|", flush=True)
    held = [row.endswith("yes |") for row in rows(chosen, given.quick)]
    return 0 if held and all(held) else 1


def rows(attacks: Sequence[Attack], quick: bool) -> Iterator[str]:
    """Those that need the same server share one."""

    def kind(one: Attack) -> tuple[int, tuple[str, ...], float]:
        return one.file_handles or 0, one.server, one.window_s

    for (handles, options, window_s), group in groupby(sorted(attacks, key=kind), key=kind):
        with served(options, handles, quick, window_s) as scene:
            honest = Honest(scene)
            assert generate(scene, key=scene.keys.get("honest"))[0] == 200
            honest.expected = generate(scene, key=scene.keys.get("honest"))[1]
            with honest.asking():
                time.sleep(QUIET_S)
            for attack in group:
                row = played(scene, attack, honest.worst_s(), honest.expected)
                print(row, flush=True)
                yield row


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
            yield Scene(server, quick, keys)
        finally:
            server.stop()


def played(scene: Scene, attack: Attack, quiet_s: float, expected: str) -> str:
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
        scrape.wait_until(lambda: scene.files() <= files + 8, 20)
    except AssertionError:
        problems.append("left behind")
    left = f"{scene.in_flight():g} in flight, {scene.files() - files:+d} handles"
    if not attack.kills:
        if scene.restarts() > restarts:
            problems.append("a restart")
        if honest.errors:
            problems.append(f"{len(honest.errors)} honest failed: {honest.errors[0][:80]}")
    slow = honest.worst_s() > max(2 * quiet_s, quiet_s + NOISE_S) and not attack.kills
    pace = f"{quiet_s:.2f} → {honest.worst_s():.2f}{' (over twice)' if slow else ''}"
    verdict = "yes" if not problems else "no: " + "; ".join(problems)
    return f"| {attack.name} | {attack.fault} | {said} | {pace} | {left} | {verdict} |"


if __name__ == "__main__":
    sys.exit(main())
