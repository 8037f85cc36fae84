"""make eval holds the served answers against the committed figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from training import served_evaluation


class Started:
    url = "127.0.0.1:1"

    def __init__(self, *arguments: object) -> None:
        pass

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_until(self, ready: object, timeout_s: float) -> None:
        pass


@pytest.mark.parametrize("code", [0, 1])
def test_it_asks_the_present_questions_and_ends_as_the_comparison_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    commands: list[tuple[str, ...]] = []

    def run(*command: str) -> int:
        commands.append(command)
        return code if "score" in command else 0

    (tmp_path / "expected.jsonl").write_text("of an older evaluation")
    monkeypatch.setattr(served_evaluation, "Server", Started)
    monkeypatch.setattr(served_evaluation, "_run", run)
    monkeypatch.setattr(sys, "argv", ["eval", "--folder", str(tmp_path)])
    assert served_evaluation.main() == code
    assert [command[:2] for command in commands] == [
        ("training.evaluate", "make"),
        ("clients.commands.batch", str(tmp_path / "questions.jsonl")),
        ("training.evaluate", "score"),
    ]
    assert commands[-1][-2:] == ("--against", str(served_evaluation.ACCURACY))
    assert served_evaluation.ACCURACY.is_file()


def test_without_questions_no_server_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_evaluation, "Server", None)
    monkeypatch.setattr(served_evaluation, "_run", lambda *command: 1)
    monkeypatch.setattr(sys, "argv", ["eval", "--folder", str(tmp_path)])
    assert served_evaluation.main() == 1
