"""Finds NVIDIA's perf_analyzer, runs it with one load and reads what it measured."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from perf import profile, traffic
from serving.machine import install

SDK_IMAGE = "nvcr.io/nvidia/tritonserver:25.10-py3-sdk"
TIMEOUT_S = 900
MOST_BYTES = 2 << 30
INPUTS, EXPORT = "inputs.json", "profile.json"


class AnalyzerError(Exception):
    """perf_analyzer is missing or failed; the message says why."""


@dataclass(frozen=True)
class Load:
    """One cell of a sweep.

    Exactly one of concurrency (requests in flight at any time) and rate (requests/s as a Poisson process, whether or
    not earlier ones are answered). lengths_s: lengths of the clips, in turn. distinct: number of different clips; None:
    no clip repeats. max_tokens: longest answer.
    """

    name: str
    requests: int
    lengths_s: tuple[float, ...]
    max_tokens: int
    concurrency: int | None = None
    rate: float | None = None
    model: str = "audio_flamingo"
    distinct: int | None = None


def command(load: Load, url: str) -> list[str]:
    """Build perf_analyzer's arguments; file names are relative to its working directory."""
    if load.rate is None:
        pace = ["--concurrency-range", str(load.concurrency)]
    else:
        pace = ["--request-rate-range", f"{load.rate:.3f}", "--request-distribution", "poisson"]
    return [
        *("-m", load.model, "-u", url, "-i", "grpc", "--async", "--streaming"),
        *("--input-data", INPUTS, "--shape", "audio:1", *pace),
        *("--request-parameter", f"max_tokens:{load.max_tokens}:int"),
        *("--request-count", str(load.requests), "--profile-export-file", EXPORT),
    ]


def program(folder: Path) -> list[str]:
    """Find the program: the binary of `make setup`, one on PATH, or the one in NVIDIA's SDK image."""
    if install.PERF_ANALYZER.is_file():
        return [str(install.PERF_ANALYZER)]
    if found := shutil.which("perf_analyzer"):
        return [found]
    if docker := shutil.which("docker"):
        mount = [f"--volume={folder}:{folder}", f"--workdir={folder}"]
        return [docker, "run", "--rm", "--network=host", *mount, SDK_IMAGE, "perf_analyzer"]
    raise AnalyzerError(f"perf_analyzer is missing; run `make setup`, or install Docker to run {SDK_IMAGE}")


def run(load: Load, url: str) -> profile.Figures:
    """Put the load on the server at `url` (gRPC). Raises AnalyzerError when perf_analyzer fails."""
    made = traffic.rows(load.lengths_s, load.requests if load.distinct is None else load.distinct)
    with tempfile.TemporaryDirectory(prefix="af3-perf-") as name:
        folder = Path(name)
        traffic.write(made, folder / INPUTS)
        _run([*program(folder), *command(load, url)], folder)
        requests = profile.read(folder / EXPORT)
    return profile.figures(requests, {row.prompt: row.audio_s for row in made})


def _run(words: Sequence[str], folder: Path) -> None:
    libraries = os.pathsep.join(filter(None, [str(install.LIBRARIES), os.environ.get("LD_LIBRARY_PATH")]))
    said = folder / "said.txt"
    with said.open("w") as output:
        try:
            code = subprocess.run(
                words,
                cwd=folder,
                env=os.environ | {"LD_LIBRARY_PATH": libraries},
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
                preexec_fn=_bound_files,
            ).returncode
        except subprocess.TimeoutExpired:
            raise AnalyzerError(f"perf_analyzer did not end within {TIMEOUT_S} s") from None
    if code or not (folder / EXPORT).is_file():
        with said.open(errors="replace") as lines:
            last = " ".join(line.strip() for line in islice(lines, 200))[-400:]
        raise AnalyzerError(f"perf_analyzer ended with code {code}: {last}")


def _bound_files() -> None:
    """Limit file sizes: perf_analyzer 2.51 can write messages without end, and must die before the disk is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, MOST_BYTES))
