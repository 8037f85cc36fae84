"""Run an evaluation and fail when the server heard less audio than the set has.

  python -m eval.heard_guard --seconds 1234 -- inspect eval eval/questions_task.py …
  python -m eval.heard_guard --folder .cache/eval -- inspect eval …

Harnesses drop audio silently (an unknown field, a type that they cannot encode) and then score the model on the text
alone. The server counts what it heard in af3_audio_seconds; retries can only raise the count.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import urllib.request
import wave
from pathlib import Path

METRICS = "http://127.0.0.1:8002/metrics"
LEAST_SHARE = 0.99  # of the set's length: lengths are rounded


def heard_s(metrics: str) -> float:
    """Seconds of audio that the server has heard since it started."""
    with urllib.request.urlopen(metrics, timeout=30) as reply:
        found = re.search(r"^af3_audio_seconds(?:\{[^}]*\})? (\S+)$", reply.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def length_s(folder: Path) -> float:
    """Seconds of audio in a set that `training.evaluate make` wrote."""
    total_s = 0.0
    for line in (folder / "questions.jsonl").read_text().splitlines():
        for clip in json.loads(line)["audio"]:
            with wave.open(str(folder / clip)) as file:
                total_s += file.getnframes() / file.getframerate()
    return total_s


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metrics", default=METRICS, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, help="of audio in the set")
    parser.add_argument("--folder", type=Path, help="the set's folder, instead of --seconds")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the evaluation's command, after --")
    arguments = parser.parse_args()
    if (arguments.seconds is None) == (arguments.folder is None):
        parser.error("give either --seconds or --folder")
    expected_s = arguments.seconds if arguments.folder is None else length_s(arguments.folder)
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    before_s = heard_s(arguments.metrics)
    code = subprocess.run(command, check=False).returncode
    found_s = heard_s(arguments.metrics) - before_s
    print(f"the server heard {found_s:.1f} s of {expected_s:.1f} s", file=sys.stderr)
    if found_s < LEAST_SHARE * expected_s:
        print("the harness dropped audio: its score says nothing about this model", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
