"""The commands that measure the targets: what can be known without measuring."""

import re
from pathlib import Path

import pytest

from af3.pace import gap_s
from perf.targets import __main__ as targets
from perf.targets import after_llm, other_llm
from perf.targets.target_finding import Finding
from serving.steps.settings import LlmSettings


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


def test_token_by_token_lifts_every_limit_on_responses(tmp_path: Path) -> None:
    """Else the figure of a backend that sends each token alone would be one of tokens that travel together."""
    for step, settings in after_llm.OVERRIDES["one token per response to the client"].items():
        (tmp_path / step).mkdir()
        (tmp_path / step / "configs").symlink_to(other_llm.MODEL_REPOSITORY / step / "configs")
        other_llm._override(tmp_path / step, settings)
    config = (tmp_path / "llm" / "configs" / "cpu.pbtxt").read_text()
    found = dict(re.findall(r'key: "(\w+)" value: { string_value: "([^"]*)" }', config))
    assert len(re.findall("key:", config)) == len(found)  # each once
    step = LlmSettings.model_validate(found)
    assert gap_s(64, step.most_responses_per_s, step.least_gap_ms / 1000) < 1e-6
    assert step.slots == 16  # the others are those of the config
