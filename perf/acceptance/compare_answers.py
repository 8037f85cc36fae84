"""Asks a running server the questions of checkpoints/samples, compares two sets of answers, sends bad requests."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from clients.client import AudioFlamingo
from clients.errors import AudioFlamingoError
from serving.host.probe import answers as is_ready

SAMPLES = Path(__file__).resolve().parents[2] / "checkpoints" / "samples"
MOST_TOKENS = 64


def ask(url: str) -> list[dict[str, Any]]:
    """Ask each question in turn, greedily; returns file, question, answer and token ids."""
    found = []
    with AudioFlamingo(url) as server:
        for sample in json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8")):
            with server.ask(SAMPLES / sample["file"], sample["question"], max_tokens=MOST_TOKENS) as answer:
                deltas = list(answer)
            found.append(
                {
                    "file": sample["file"],
                    "question": sample["question"],
                    "answer": "".join(delta.text for delta in deltas),
                    "token_ids": [token for delta in deltas for token in delta.token_ids],
                }
            )
    return found


def compare(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the share of questions with equal token ids and, for the others, where the ids first differ."""
    if [entry["file"] for entry in one] != [entry["file"] for entry in other]:
        raise ValueError("the two files answer different questions")
    parted = {}
    for before, after in zip(one, other, strict=True):
        first, second = before["token_ids"], after["token_ids"]
        if first != second:
            shared = sum(1 for _ in _common(first, second))
            parted[before["file"]] = {
                "same_tokens": shared,
                "one": before["answer"],
                "other": after["answer"],
            }
    return {"questions": len(one), "same": 1 - len(parted) / len(one), "parted": parted}


def disturb(url: str) -> dict[str, str]:
    """Send bad requests; returns the answer to each by name. Raises AssertionError when the server stops answering."""
    clip = SAMPLES / "digits.wav"
    bad: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "no audio at all in the file": (b"RIFF no sound", "Transcribe.", {}),
        "half a file": (clip.read_bytes()[:200], "Transcribe.", {}),
        "a parameter out of range": (clip, "Transcribe.", {"max_tokens": 10**9}),
        "an empty file": (b"", "Transcribe.", {}),
    }
    said = {}
    with AudioFlamingo(url) as server:
        for name, (audio, prompt, parameters) in bad.items():
            try:
                said[name] = f"answered: {server.ask(audio, prompt, **parameters).text()[:80]}"
            except AudioFlamingoError as error:
                said[name] = str(error)[:160]
            assert is_ready(url), f"the server does not answer after: {name}"
        for number in range(8):
            with server.ask(clip, "Describe this audio in detail.", max_tokens=MOST_TOKENS) as answer:
                next(iter(answer), None)
                answer.cancel()
            said[f"cancelled {number}"] = "cancelled"
    assert is_ready(url), "the server does not answer after cancelled requests"
    return said


def _common(first: list[int], second: list[int]) -> list[int]:
    """Return the common prefix of both."""
    shared = []
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        shared.append(one)
    return shared


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m perf.acceptance.compare_answers", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("ask", "disturb"):
        asking = verbs.add_parser(verb)
        asking.add_argument("--url", required=True)
        asking.add_argument("--out", type=Path, required=True)
    comparing = verbs.add_parser("compare")
    comparing.add_argument("one", type=Path)
    comparing.add_argument("other", type=Path)
    comparing.add_argument("--least", type=float, default=1.0, help="share of questions that must be equal")
    comparing.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if arguments.verb == "compare":
        result: Any = compare(json.loads(arguments.one.read_text()), json.loads(arguments.other.read_text()))
        code = 0 if result["same"] >= arguments.least else 1
    else:
        result = ask(arguments.url) if arguments.verb == "ask" else disturb(arguments.url)
        code = 0
    text = json.dumps(result, indent=1, ensure_ascii=False)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
