"""The commands that measure the targets: what can be known without measuring."""

import pytest

from perf.targets import __main__ as targets
from perf.targets.target_finding import Finding


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *met: bool | None
) -> tuple[int, str]:
    findings = [Finding(f"part {number}", "≤ 1", "0.5", one) for number, one in enumerate(met)]
    monkeypatch.setattr(targets, "TARGETS", {"stand-in": lambda: findings})
    monkeypatch.setattr("sys.argv", ["targets", "stand-in"])
    return targets.main(), capsys.readouterr().out


def test_a_missed_target_is_said_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(monkeypatch, capsys, True, False)
    assert code == 1
    assert "| part 0 | ≤ 1 | 0.5 | met |" in text and "| part 1 | ≤ 1 | 0.5 | MISSED |" in text


def test_a_target_without_a_bound_cannot_be_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, capsys, True, None)[0] == 0


def test_an_unknown_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["targets", "nothing"])
    with pytest.raises(SystemExit):
        targets.main()
    assert "unknown target nothing; choose from tokens, overhead" in capsys.readouterr().err
