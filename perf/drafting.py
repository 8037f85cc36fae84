"""How many tokens a step would n-gram drafting give? `python -m perf.drafting`, after `make eval`.

Drafting by n-grams proposes what followed the last tokens where they stood before, in the question or in the answer,
and the LLM checks the proposal in one step. It leaves a greedy answer as it is. This replays the answers of the
evaluation, without a model: a proposal is right as far as the answer goes on like it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

from perf.report import table

EVALUATION = Path(".cache/eval")
CHECKPOINT = Path("checkpoints/af3-tiny")
LONGEST_MATCHES = (1, 2, 3)
MOST_DRAFTED = (2, 4, 8)


@dataclass
class Replay:
    """What drafting made of some answers: steps of the LLM, tokens written, drafted, accepted."""

    steps: int = 0
    written: int = 0
    drafted: int = 0
    accepted: int = 0

    def add(self, prompt: Sequence[int], answer: Sequence[int], longest: int, most: int) -> None:
        """Replay an answer, its end token included."""
        done = 0
        while done < len(answer):
            proposal = draft([*prompt, *answer[:done]], longest, most)
            right = agreeing(proposal, answer[done:])
            self.steps += 1
            self.drafted += len(proposal)
            self.accepted += right
            self.written += min(right + 1, len(answer) - done)
            done += right + 1


def draft(tokens: Sequence[int], longest: int, most: int) -> list[int]:
    """At most `most` tokens that followed the last place of the last `longest` tokens, or of fewer of them."""
    for length in range(longest, 0, -1):
        tail = tokens[-length:]
        for start in range(len(tokens) - length - 1, -1, -1):
            if tokens[start : start + length] == tail:
                return list(tokens[start + length : start + length + most])
    return []


def agreeing(proposal: Sequence[int], answer: Sequence[int]) -> int:
    """How many tokens of the proposal are those of the answer."""
    pairs = zip(proposal, answer, strict=False)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(proposal), len(answer)))


def replays(evaluation: Path, answers: Path, checkpoint: Path) -> str:
    """Render a table. Raises FileNotFoundError."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    questions = {line["id"]: line["messages"] for line in _lines(evaluation / "questions.jsonl")}
    pairs = []
    for line in _lines(answers):
        prompt = tokenizer.apply_chat_template(
            questions[line["id"]], tokenize=False, add_generation_prompt=True
        )
        written = [*tokenizer.encode(line["text"]), tokenizer.eos_token_id]
        pairs.append((tokenizer.encode(prompt), written))
    rows = []
    for longest in LONGEST_MATCHES:
        for most in MOST_DRAFTED:
            found = Replay()
            for prompt, written in pairs:
                found.add(prompt, written, longest, most)
            accepted = 100 * found.accepted / max(found.drafted, 1)
            rows.append([str(longest), str(most), f"{found.written / found.steps:.3f}", f"{accepted:.1f} %"])
    return table(["longest match", "most drafted", "tokens a step", "accepted"], rows)


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--evaluation", type=Path, default=EVALUATION, help="default: %(default)s")
    parser.add_argument("--answers", type=Path, help="default: served.jsonl in it")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="default: %(default)s")
    arguments = parser.parse_args(given)
    try:
        answers = arguments.answers or arguments.evaluation / "served.jsonl"
        print(replays(arguments.evaluation, answers, arguments.checkpoint))
    except FileNotFoundError as error:
        print(f"{error.filename} is missing: make eval", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
