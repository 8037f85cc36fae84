"""Evaluates af3-tiny through the served ensemble: starts the server, asks all questions with
`clients.commands.batch` and prints the table by task. The exit code is 0 when every row has as many right answers as
the committed accuracy.json; otherwise it is 1, and the rows that differ are named.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from serving.host.probe import answers
from serving.host.triton import REPOSITORY, Ports, Server, ServerError

MAX_TOKENS = "64"
ACCURACY = Path(__file__).parents[1] / "checkpoints" / "af3-tiny" / "accuracy.json"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path(".cache/eval"), help="default: %(default)s")
    folder = parser.parse_args().folder
    # Always: the folder of an older evaluation asks other questions.
    if _run("training.evaluate", "make", str(folder)):
        return 1
    served = folder / "served.jsonl"
    served.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as logs:
        try:
            with Server("cpu", REPOSITORY, Path(logs) / "server.log", Ports(0, 0, 0)) as server:
                server.wait_until(lambda: answers(server.url), timeout_s=120)
                questions = str(folder / "questions.jsonl")
                _run(
                    "clients.commands.batch",
                    questions,
                    "--out",
                    str(served),
                    "--url",
                    server.url,
                    "--max-tokens",
                    MAX_TOKENS,
                )
        except ServerError as error:
            print(error, file=sys.stderr)
            return 1
    return _run("training.evaluate", "score", str(folder), str(served), "--against", str(ACCURACY))


def _run(module: str, *arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", module, *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main())
