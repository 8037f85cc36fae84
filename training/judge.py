"""Lets an independent recogniser read the natural clips of the evaluation: `python -m training.judge`.

It writes training/unread_clips.json, once for all evaluations: which clips it could not read, and what it heard
instead. The recogniser is CMU's pocketsphinx (`make .venv-kokoro/ready`). It is told what kind of clip it is, as no one
tells af3-tiny: so many digits, one of the commands, one of the questions, one of the unknown sentences. With its own
language model it would fail at most digit strings and single words, which says nothing about the clip.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from training.natural_evaluation import (
    COUNTS,
    DIGIT_COUNTS,
    MOST_SENTENCES,
    UNREAD,
    HeldOutVoices,
    Said,
    candidate,
    digest,
)
from training.questions import GENERAL_KNOWLEDGE
from training.scenes import COMMANDS, DIGITS
from training.signals import Pcm

RECOGNISER = Path(__file__).with_name("recogniser.py")
PYTHON = Path(os.environ.get("KOKORO_JUDGES", ".venv-kokoro")) / "bin" / "python"
NAME = "pocketsphinx 5.1.1, en-us, a grammar for each kind"

Listen = Callable[[str, list[Pcm]], list[str]]


def choices(kind: str) -> list[list[str]]:
    """What a clip of the kind can say: one text of each list, one after the other."""
    if kind in DIGIT_COUNTS:
        return [DIGITS] * DIGIT_COUNTS[kind]
    if kind == "unknown":
        return [[candidate(kind, number).text for number in range(MOST_SENTENCES)]]
    return [COMMANDS] if kind == "command" else [[*GENERAL_KNOWLEDGE]]


def listen(kind: str, clips: list[Pcm]) -> list[str]:
    """Return what pocketsphinx hears in each clip (float32 at 16 kHz). Raises FileNotFoundError without it."""
    if not PYTHON.exists():
        raise FileNotFoundError(f"{PYTHON} is not there; make it with `make .venv-kokoro/ready`")
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, pcm in enumerate(clips):
            path = Path(folder) / f"{number}.raw"
            (0.5 * pcm * 32767).astype("<i2").tofile(path)
            paths.append(str(path))
        task = {"choices": choices(kind), "clips": paths}
        done = subprocess.run([PYTHON, RECOGNISER], input=json.dumps(task), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the recogniser failed: {done.stderr.strip()[-500:]}")
    heard: list[str] = json.loads(done.stdout)
    return heard


def judged(kind: str, wanted: int, speak: Callable[[Said], Pcm], listen: Listen) -> dict:
    """Read candidates of a kind until `wanted` of them are read; return the kind's entry in unread_clips.json."""
    unread: dict[str, list[str]] = {}
    count = 0
    while (missing := wanted - (count - len(unread))) > 0:
        batch = [candidate(kind, number) for number in range(count, count + missing)]
        heard = listen(kind, [speak(said) for said in tqdm(batch, desc=kind, unit="clip")])
        for said, text in zip(batch, heard, strict=True):
            if text != said.text:
                unread[str(count)] = [said.text, text]
            count += 1
    return {"candidates": count, "digest": digest(kind, count), "unread": unread}


def main(arguments: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    kinds = json.loads(UNREAD.read_text())["kinds"] if UNREAD.exists() else {}
    with HeldOutVoices() as voices:
        for kind, wanted in COUNTS.items():
            kinds[kind] = judged(kind, wanted, voices.speech, listen)
            UNREAD.write_text(json.dumps({"recogniser": NAME, "kinds": kinds}, indent=1) + "\n")
            read = kinds[kind]["candidates"] - len(kinds[kind]["unread"])
            print(f"{kind}: {read} of {kinds[kind]['candidates']} read")
    return 0


if __name__ == "__main__":
    sys.exit(main())
