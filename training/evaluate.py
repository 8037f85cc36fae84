"""Evaluate a checkpoint: make the questions, answer them, and score the answers.

  python -m training.evaluate make FOLDER              clips, questions.jsonl, expected.jsonl
  python -m training.evaluate answer FOLDER ANSWERS    Transformers' greedy answers (fp32)
  python -m training.evaluate score FOLDER ANSWERS     a table by task; exit code 1 when a bar is missed, or with
                                                       --against accuracy.json when a row is not as in that file
  python -m training.evaluate compare ANSWERS OTHERS   exit code 1 when two sets of answers differ

The server's answers come from `python -m clients.commands.batch FOLDER/questions.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from build_engines.stage import BuildError
from training import evaluation_set
from training.evaluation_set import MOST_HONEST, TASKS, Beside
from training.people import PREFIX
from training.unknown import HONEST

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "af3-tiny"
SHOWN_CONFUSIONS = 3
SENT_AWAY = "known questions answered with the honest sentence"
ROUNDING = 1e-9  # of a bar that is computed from another figure


@dataclass
class Score:
    """The figures of one task; `confusions` counts (expected, answered) pairs. at_most: the bar is an upper one."""

    asked: int = 0
    right: int = 0
    bar: float | None = None
    at_most: bool = False
    confusions: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        return self.right / self.asked if self.asked else 0.0

    @property
    def missed(self) -> bool:
        if self.bar is None:
            return False
        return self.share > self.bar + ROUNDING if self.at_most else self.share < self.bar - ROUNDING


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def scored(expected: list[dict], answers: list[dict]) -> dict[str, Score]:
    """Score answers by task: the whole answer must match. A missing answer and an error count as wrong.

    The last row, SENT_AWAY, counts the honest sentences where another answer was right, the recordings of people aside.
    """
    said = {
        line["id"]: line["text"] if not line.get("error") else f"error: {line['error']}" for line in answers
    }
    bars = {task.name: task.bar for task in TASKS}
    scores: dict[str, Score] = {}
    sent_away = Score(bar=MOST_HONEST, at_most=True)
    for line in expected:
        score = scores.setdefault(line["task"], Score())
        answer = (said.get(line["id"]) or "").strip()
        score.asked += 1
        if answer == line["answer"]:
            score.right += 1
        else:
            score.confusions[line["answer"], answer] += 1
        if line["answer"] != HONEST and not line["task"].startswith(PREFIX):
            sent_away.asked += 1
            sent_away.right += answer == HONEST
    for name, score in scores.items():
        bar = bars.get(name)
        if not isinstance(bar, Beside):
            score.bar = bar
        elif bar.task in scores:
            score.bar = bar.of(scores[bar.task].share)
    return scores | {SENT_AWAY: sent_away}


def table(scores: dict[str, Score]) -> str:
    """Render a Markdown table: task, questions asked, share right, the bar, and whether it holds."""
    rows = ["| task | asked | right | must be | |", "|---|---:|---:|---:|---|"]
    for name, score in scores.items():
        bar = "" if score.bar is None else f"{'≤ ' if score.at_most else ''}{100 * score.bar:.0f} %"
        verdict = "" if score.bar is None else ("missed" if score.missed else "holds")
        rows.append(f"| {name} | {score.asked} | {100 * score.share:.1f} % | {bar} | {verdict} |")
    return "\n".join(rows)


def confusions(scores: dict[str, Score]) -> str:
    """List the most frequent mistakes of every task."""
    lines = []
    for name, score in scores.items():
        for (expected, answered), count in score.confusions.most_common(SHOWN_CONFUSIONS):
            lines.append(f"{name}: {count} x {expected!r} heard as {answered!r}")
    return "\n".join(lines)


def figures(scores: dict[str, Score]) -> dict:
    """Build the content of accuracy.json."""
    return {
        name: {
            "asked": score.asked,
            "right": score.right,
            "must_be": None if score.bar is None else round(score.bar, 4),
            "confusions": [[*pair, n] for pair, n in score.confusions.most_common()],
        }
        for name, score in scores.items()
    }


def unlike(scores: dict[str, Score], committed: dict[str, dict]) -> list[str]:
    """Say for every row how its figures differ from those of an accuracy.json; nothing where they are equal."""

    def row(found: dict | None) -> str:
        return "no such row" if found is None else f"{found['right']} of {found['asked']}"

    ours = figures(scores)
    names = [*ours, *(name for name in committed if name not in ours)]
    return [
        f"{name}: {row(ours.get(name))}, committed: {row(committed.get(name))}"
        for name in names
        if row(ours.get(name)) != row(committed.get(name))
    ]


def differing(answers: list[dict], others: list[dict]) -> list[tuple[str, str, str]]:
    """Return (id, answer, other answer) wherever the two texts differ."""
    theirs = {line["id"]: line["text"] for line in others}
    return [
        (line["id"], line["text"], theirs.get(line["id"]))
        for line in answers
        if theirs.get(line["id"]) != line["text"]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make")
    make.add_argument("folder", type=Path)
    make.add_argument("--share", type=float, default=1.0, help="ask only this share of every task")
    make.add_argument(
        "--only", default="", metavar="TEXT", help="ask only the tasks with this in their names"
    )
    answer = commands.add_parser("answer")
    answer.add_argument("folder", type=Path)
    answer.add_argument("answers", type=Path)
    answer.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    score = commands.add_parser("score")
    score.add_argument("folder", type=Path)
    score.add_argument("answers", type=Path)
    score.add_argument("--json", type=Path, help="also write the figures here")
    score.add_argument("--against", type=Path, help="an accuracy.json: the figures must be equal to it")
    compare = commands.add_parser("compare")
    compare.add_argument("answers", type=Path)
    compare.add_argument("others", type=Path)
    arguments = parser.parse_args()

    if arguments.command == "make":
        tasks = [task for task in evaluation_set.TASKS if arguments.only in task.name]
        if not tasks:
            parser.error(f"no task has {arguments.only!r} in its name")
        try:
            count = evaluation_set.write(arguments.folder, arguments.share, tasks)
        except (BuildError, LookupError) as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{count} questions in {arguments.folder}")
        return 0
    if arguments.command == "answer":
        from training.answer_questions import answer_all

        answer_all(arguments.checkpoint, arguments.folder, arguments.answers)
        return 0
    if arguments.command == "compare":
        different = differing(read_lines(arguments.answers), read_lines(arguments.others))
        for name, ours, theirs in different:
            print(f"{name}: {ours!r} against {theirs!r}")
        print(f"{len(different)} answers differ")
        return int(bool(different))
    scores = scored(read_lines(arguments.folder / "expected.jsonl"), read_lines(arguments.answers))
    print(table(scores))
    print(confusions(scores))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures(scores), indent=1) + "\n")
    if not arguments.against:
        return int(any(score.missed for score in scores.values()))
    unequal = unlike(scores, json.loads(arguments.against.read_text()))
    print("\n".join(unequal) or f"every figure is as in {arguments.against}")
    return int(bool(unequal))


if __name__ == "__main__":
    sys.exit(main())
