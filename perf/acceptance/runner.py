"""Runs the steps, remembers which passed, and writes report.json and report.md."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from perf.acceptance.acceptance_plan import PORT, Step
from perf.place import end
from serving.host.probe import answers
from serving.host.triton import dependent

READY_TIMEOUT_S = 1200.0
STOP_TIMEOUT_S = 90.0
REPORT = "report.json"


@dataclass(frozen=True)
class Outcome:
    """Result of a step. state: passed, failed, or skipped because a step that it needs did not pass. commands: identify
    the step, so that a changed one runs again."""

    name: str
    state: str
    seconds: float
    reason: str
    commands: str


class ServerFailed(Exception):
    """The server of a step did not start."""


def run(steps: Sequence[Step], folder: Path) -> list[Outcome]:
    """Run every step that has not passed yet; write the report after each."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {outcome.name: outcome for outcome in read(folder) if outcome.state == "passed"}
    outcomes: dict[str, Outcome] = {}
    for step in steps:
        before = kept.get(step.name)
        if before is not None and before.commands == _identity(step):
            print(f"{step.name}: passed before")
            outcomes[step.name] = before
            continue
        lacking = [name for name in step.needs if outcomes[name].state != "passed"]
        if lacking:
            outcomes[step.name] = _outcome(step, "skipped", 0.0, f"needs {', '.join(lacking)}")
        else:
            outcomes[step.name] = _run(step, folder)
        print(f"{step.name}: {outcomes[step.name].state} {outcomes[step.name].reason}", flush=True)
        write(steps, list(outcomes.values()), folder)
    write(steps, list(outcomes.values()), folder)
    return list(outcomes.values())


def read(folder: Path) -> list[Outcome]:
    path = folder / REPORT
    return [Outcome(**entry) for entry in json.loads(path.read_text())["steps"]] if path.exists() else []


def write(steps: Sequence[Step], outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write report.json with every result file, and report.md for people; neither names the home folder or tokens."""
    found = {outcome.name: outcome for outcome in outcomes}
    results = {
        path.name: json.loads(path.read_text())
        for step in steps
        if step.name in found
        for path in step.results
        if path.exists()
    }
    content = {"steps": [asdict(outcome) for outcome in outcomes], "results": results}
    (folder / REPORT).write_text(_without_home(json.dumps(content, indent=1)) + "\n")
    lines = ["# Acceptance", "", "| step | what it does | result | seconds |", "|---|---|---|---|"]
    for step in steps:
        outcome = found.get(step.name)
        if outcome is not None:
            lines.append(f"| {step.name} | {step.does} | {outcome.state} | {outcome.seconds:.0f} |")
    for step in steps:
        outcome = found.get(step.name)
        if outcome is not None and outcome.state == "failed":
            lines += ["", f"**{step.name}** failed: {outcome.reason}. What to do: {step.remedy}."]
    for name, values in results.items():
        lines += ["", f"## {name}", "", "```json", json.dumps(values, indent=1)[:4000], "```"]
    (folder / "report.md").write_text(_without_home("\n".join(lines)) + "\n")


def describe(steps: Sequence[Step]) -> str:
    """Describe what a run would do, without starting anything."""
    lines = []
    for step in steps:
        lines.append(f"{step.name}: {step.does}")
        if step.serves is not None:
            lines.append(f"  $ {shlex.join(_serve_command(step))}")
        lines += [f"  $ {shlex.join(words)}" for words in step.commands]
    return "\n".join(lines)


def _run(step: Step, folder: Path) -> Outcome:
    print(f"{step.name}: {step.does}", flush=True)
    started = time.monotonic()
    log = folder / f"{step.name}.log"
    reason = ""
    with log.open("w") as output:
        try:
            with _server(step, folder):
                for words in step.commands:
                    code = _call(words, output)
                    if code != 0:
                        reason = f"{shlex.join(words[:6])} … ended with {code}; see {log.name}"
                        break
        except ServerFailed as error:
            reason = str(error)
    state = "failed" if reason else "passed"
    return _outcome(step, state, time.monotonic() - started, reason)


def _call(words: Sequence[str], output: object) -> int:
    try:
        return subprocess.run(words, stdout=output, stderr=subprocess.STDOUT, check=False).returncode  # type: ignore[call-overload, no-any-return]
    except FileNotFoundError:
        return 127


@contextmanager
def _server(step: Step, folder: Path) -> Iterator[None]:
    """Start the server that the step needs, wait until it answers, and stop it at the end."""
    if step.serves is None:
        yield
        return
    log = folder / f"{step.name}.server.log"
    with log.open("w") as output:
        process = subprocess.Popen(dependent(_serve_command(step)), stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline_s = time.monotonic() + READY_TIMEOUT_S
            while not answers(f"127.0.0.1:{PORT}"):
                if process.poll() is not None:
                    raise ServerFailed(f"the server ended with {process.returncode}; see {log.name}")
                if time.monotonic() > deadline_s:
                    raise ServerFailed(f"the server was not ready in {READY_TIMEOUT_S:.0f} s; see {log.name}")
                time.sleep(1)
            yield
        finally:
            end(process, STOP_TIMEOUT_S)


def _serve_command(step: Step) -> list[str]:
    assert step.serves is not None
    target, folder = step.serves
    command = [sys.executable, "-m", "serving.host.launch", "--target", target, "--folder", str(folder)]
    return [*command, "--grpc-port", str(PORT)]


def _outcome(step: Step, state: str, seconds: float, reason: str) -> Outcome:
    return Outcome(step.name, state, round(seconds, 1), reason, _identity(step))


def _identity(step: Step) -> str:
    return _without_home("\n".join(shlex.join(words) for words in step.commands))


def _without_home(text: str) -> str:
    """Remove the home folder from a text, so that a report does not name its user."""
    return text.replace(str(Path.home()), "~") if os.fspath(Path.home()) != "/" else text
