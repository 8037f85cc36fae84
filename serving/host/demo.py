"""A first look: start the server, ask it about a few clips, show the answers as they stream, stop it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from serving.host.probe import answers
from serving.host.triton import REPOSITORY, Ports, Server, ServerError

SAMPLES = REPOSITORY / "checkpoints" / "samples" / "samples.json"


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with Server("cpu", REPOSITORY, Path(folder) / "server.log", Ports(0, 0, 0)) as server:
                print("starting tritonserver …", flush=True)
                server.wait_until(lambda: answers(server.url), timeout_s=120)
                return max(_ask(server.url, *question) for question in _questions())
        except ServerError as error:
            print(error, file=sys.stderr)
            return 1


def _questions() -> list[tuple[Path, str, str]]:
    """(clip, question, what is right)."""
    samples = json.loads(SAMPLES.read_text(encoding="utf-8"))
    return [(SAMPLES.parent / sample["file"], sample["question"], sample["answer"]) for sample in samples]


def _ask(url: str, clip: Path, question: str, right: str) -> int:
    print(f"\n{clip.name}: {question}", flush=True)
    code = subprocess.run(
        [sys.executable, "-m", "clients.commands.ask", "--url", url, str(clip), question]
    ).returncode
    print(f"  (right: {right})")
    return code


if __name__ == "__main__":
    sys.exit(main())
