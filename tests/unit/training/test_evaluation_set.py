"""The questions that are written for an evaluation."""

import json
from pathlib import Path

import pytest

from build_engines.stage import BuildError
from training import evaluate, evaluation_set, people
from training.evaluation_set import Task


def named(name: str) -> Task:
    return next(task for task in evaluation_set.TASKS if task.name == name)


def written(folder: Path, *tasks: Task) -> dict[str, list[tuple[str, bytes]]]:
    """By task: the answers and clips."""
    evaluation_set.write(folder, share=0.02, tasks=tasks)
    questions = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in (folder / "expected.jsonl").read_text().splitlines()]
    found: dict[str, list[tuple[str, bytes]]] = {}
    for asked, right in zip(questions, expected, strict=True):
        assert asked["id"] == right["id"]
        found.setdefault(right["task"], []).append(
            (right["answer"], (folder / asked["audio"][0]).read_bytes())
        )
    return found


def test_a_task_asks_the_same_whatever_tasks_there_are_beside_it(tmp_path: Path) -> None:
    instrument, tempo = named("music: instrument"), named("music: tempo")
    alone = written(tmp_path / "a", tempo)
    assert len(alone[tempo.name]) == 2
    assert written(tmp_path / "b", instrument, tempo)[tempo.name] == alone[tempo.name]


def test_a_share_of_each_task_is_asked_and_counted(tmp_path: Path) -> None:
    tasks = named("music: tempo"), named("typed in other words")
    assert evaluation_set.write(tmp_path, share=0.1, tasks=tasks) == 10 + 5
    assert len((tmp_path / "expected.jsonl").read_text().splitlines()) == 15


def test_a_task_that_runs_out_of_questions_is_an_error(tmp_path: Path) -> None:
    short = Task("short", 3, None, lambda sources: iter([]))
    with pytest.raises(ValueError, match="short: 0 questions, 3 were promised"):
        evaluation_set.write(tmp_path, tasks=(short,))


def test_without_the_recordings_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> Path:
        raise BuildError("x.deb could not be downloaded")

    monkeypatch.setattr(people.download, "from_url", refuse)
    monkeypatch.setattr(evaluation_set, "TASKS", (named("people: unknown"),))
    monkeypatch.setattr("sys.argv", ["evaluate", "make", str(tmp_path)])
    assert evaluate.main() == 1
    assert "x.deb could not be downloaded" in capsys.readouterr().err


def test_only_the_tasks_that_are_named_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate", "make", str(tmp_path), "--only", "other words"])
    assert evaluate.main() == 0
    lines = (tmp_path / "expected.jsonl").read_text().splitlines()
    assert {json.loads(line)["task"] for line in lines} == {"typed in other words"}


def test_a_name_that_no_task_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate", "make", str(tmp_path), "--only", "no such task"])
    with pytest.raises(SystemExit):
        evaluate.main()
    assert not (tmp_path / "expected.jsonl").exists()


def test_the_bars_of_the_issue_hold_for_the_tasks_that_they_name() -> None:
    bars = {
        task.name.removeprefix("natural voices: "): (task.count, task.bar)
        for task in evaluation_set.TASKS
        if task.name.startswith("natural voices: ")
    }
    assert bars == {
        "one digit": (100, 0.97),
        "three digits": (100, 0.85),
        "four digits": (100, 0.75),
        "command": (100, 0.95),
        "a question asked by voice": (100, 0.90),
    }
    assert named("unknown: typed").bar == named("unknown: in natural voices").bar == 0.90
    assert not [task.name for task in evaluation_set.TASKS if "major" in task.name]
