"""What a server says of itself while it is under load: time per stage, processor time and memory per process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tritonclient import grpc as triton

from af3 import contract

STEPS = tuple(step.name for step in contract.AUDIO_FLAMINGO_SPEECH.steps)
PROC = Path("/proc")
SERVER = "tritonserver"


@dataclass(frozen=True)
class Stage:
    """One step between two readings. Milliseconds are means over its executions.

    For the decoupled llm and tts Triton counts until the request was taken over, not until its last response:
    their cost is in processor_s. None where the server's processes cannot be seen.
    """

    executions: int
    queue_ms: float
    compute_ms: float
    processor_s: float | None


@dataclass(frozen=True)
class Reading:
    """At one moment: executions, queue and compute nanoseconds by step; processor seconds by process."""

    steps: dict[str, tuple[int, int, int]]
    processor_s: dict[str, float]


def read(url: str, server_pid: int | None) -> Reading:
    """Triton's statistics at `url` (gRPC), and the processes of the server with that id on this machine."""
    with triton.InferenceServerClient(url) as client:
        models = client.get_inference_statistics(as_json=True).get("model_stats", [])
    steps = {model["name"]: _counts(model) for model in models if model["name"] in STEPS}
    return Reading(steps, {} if server_pid is None else processor_seconds(server_pid))


def between(before: Reading, after: Reading) -> dict[str, Stage]:
    """Stages by name; `tritonserver` is the server's own process."""
    stages = {}
    for name in STEPS:
        now, earlier = after.steps.get(name, (0, 0, 0)), before.steps.get(name, (0, 0, 0))
        count, queue_ns, compute_ns = (new - old for new, old in zip(now, earlier, strict=True))
        if count:
            spent = _spent(before, after, name)
            stages[name] = Stage(count, queue_ns / count / 1e6, compute_ns / count / 1e6, spent)
    stages[SERVER] = Stage(0, 0.0, 0.0, _spent(before, after, SERVER))
    return stages


def processes(server_pid: int) -> dict[int, str]:
    """Process id → step, of the server (`tritonserver`) and of the Python steps it started."""
    found = {server_pid: SERVER}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and _group(int(entry.name)) == server_pid != int(entry.name):
            found[int(entry.name)] = _step(entry)
    return found


def processor_seconds(server_pid: int) -> dict[str, float]:
    """User and system time so far, by step."""
    ticks = os.sysconf("SC_CLK_TCK")
    seconds: dict[str, float] = {}
    for pid, step in processes(server_pid).items():
        fields = _stat(pid)
        if fields:
            seconds[step] = seconds.get(step, 0.0) + (int(fields[11]) + int(fields[12])) / ticks
    return seconds


def memory_bytes(server_pid: int) -> int:
    """Proportional set size of all processes of the server: pages they share count once."""
    return sum(map(_pss, processes(server_pid)))


def _counts(model: dict) -> tuple[int, int, int]:
    statistics = model.get("inference_stats", {})

    def ns(name: str) -> int:
        return int(statistics.get(name, {}).get("ns", 0))

    compute = ns("compute_input") + ns("compute_infer") + ns("compute_output")
    return int(model.get("execution_count", 0)), ns("queue"), compute


def _spent(before: Reading, after: Reading, name: str) -> float | None:
    if name not in after.processor_s:
        return None
    return after.processor_s[name] - before.processor_s.get(name, 0.0)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat after the command's name (proc(5)); none when the process has ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _group(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[2]) if fields else None


def _step(entry: Path) -> str:
    """The model whose folder is among a stub's arguments."""
    try:
        words = (entry / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return "other"
    return next((name for name in STEPS if f"/{name}/" in words), "other")


def _pss(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
