"""Reads a server's own figures under load: time per stage, processor time and memory per process."""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from af3 import contract
from perf.place import Place

STEPS = tuple(step.name for step in contract.AUDIO_FLAMINGO_SPEECH.steps)
PROC = Path("/proc")
TRITON, DOOR = "tritonserver", "door"
SAMPLE = re.compile(r'^nv_inference_(\w+)\{model="(\w+)",[^}]*\} (\S+)$', re.MULTILINE)
COMPUTE = ("compute_input_duration_us", "compute_infer_duration_us", "compute_output_duration_us")


@dataclass(frozen=True)
class Stage:
    """One step between two readings; milliseconds are means over its executions.

    For the decoupled llm and tts, Triton counts until the step accepted the request, not until its last response; see
    processor_s for their cost. processor_s is None when the server's processes cannot be seen.
    """

    executions: int
    queue_ms: float
    compute_ms: float
    processor_s: float | None


@dataclass(frozen=True)
class Reading:
    """Counters at one moment: executions, queue and compute microseconds by step; processor seconds by process."""

    steps: dict[str, tuple[float, float, float]]
    processor_s: dict[str, float]


def read(place: Place) -> Reading:
    """Read Triton's metrics and, when they are on this machine, the server's processes."""
    steps = {} if place.metrics_url is None else _steps(metrics(place.metrics_url))
    return Reading(steps, {} if place.pid is None else processor_seconds(place.pid))


def metrics(url: str) -> str:
    """Fetch the text of /metrics."""
    with urllib.request.urlopen(url, timeout=30) as reply:
        text: str = reply.read().decode()
    return text


def total(url: str, name: str) -> float:
    """Fetch /metrics; the sum of the samples whose name begins so."""
    lines = metrics(url).splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def between(before: Reading, after: Reading) -> dict[str, Stage]:
    """Compute the stages by name; `tritonserver` and `door` are processes without a stage."""
    stages = {}
    for name in STEPS:
        now, earlier = after.steps.get(name, (0, 0, 0)), before.steps.get(name, (0, 0, 0))
        count, queue_us, compute_us = (new - old for new, old in zip(now, earlier, strict=True))
        if count:
            spent = _spent(before, after, name)
            stages[name] = Stage(int(count), queue_us / count / 1e3, compute_us / count / 1e3, spent)
    for name in (TRITON, DOOR):
        stages[name] = Stage(0, 0.0, 0.0, _spent(before, after, name))
    return stages


def processes(pid: int) -> dict[int, str]:
    """Map process ids to steps, for `make serve` and everything it started."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        fields = _stat(int(entry.name)) if entry.name.isdigit() else []
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = {pid: DOOR}
    pending = list(children.get(pid, ()))
    while pending:
        child = pending.pop()
        found[child] = _name(child)
        pending += children.get(child, ())
    return found


def processor_seconds(pid: int) -> dict[str, float]:
    """User plus system time so far, by step."""
    ticks = os.sysconf("SC_CLK_TCK")
    seconds: dict[str, float] = {}
    for each, step in processes(pid).items():
        if fields := _stat(each):
            seconds[step] = seconds.get(step, 0.0) + (int(fields[11]) + int(fields[12])) / ticks
    return seconds


def memory_bytes(pid: int) -> int:
    """Proportional set size of all the server's processes; shared pages count once."""
    return sum(map(_pss, processes(pid)))


def _steps(text: str) -> dict[str, tuple[float, float, float]]:
    found: dict[str, dict[str, float]] = {}
    for kind, model, value in SAMPLE.findall(text):
        found.setdefault(model, {})[kind] = float(value)
    return {name: _counts(found[name]) for name in STEPS if name in found}


def _counts(values: Mapping[str, float]) -> tuple[float, float, float]:
    compute = sum(values.get(kind, 0.0) for kind in COMPUTE)
    return values.get("exec_count", 0.0), values.get("queue_duration_us", 0.0), compute


def _spent(before: Reading, after: Reading, name: str) -> float | None:
    if name not in after.processor_s:
        return None
    return after.processor_s[name] - before.processor_s.get(name, 0.0)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat after the command name (proc(5)); empty when the process has ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _name(pid: int) -> str:
    """The name of the model whose folder is among a stub's arguments."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return "other"
    if words.partition("\0")[0].endswith(f"/{TRITON}"):
        return TRITON
    return next((name for name in STEPS if f"/{name}/" in words), "other")


def _pss(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
