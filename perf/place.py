"""Starts the server under measurement like `make serve`, on free ports, and always stops it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perf import endless
from serving.host.launch import CONFIG_OF_TARGET, GPU_CONFIG, READY_TIMEOUT_S
from serving.host.triton import dependent

STOP_TIMEOUT_S = 60
ADDRESS = re.compile(r"^ +(gRPC|HTTP|metrics) +(?:http://)?([^\s/]+)")


class PlaceError(Exception):
    """The server did not start; the message holds its last output."""


@dataclass(frozen=True)
class Place:
    """A running server. url: gRPC, host:port. metrics_url: of /metrics, None when unknown. pid: of `make serve`, None
    on another machine. ready_s: seconds from start to ready. http_url: http://host:port.
    """

    url: str
    metrics_url: str | None = None
    pid: int | None = None
    ready_s: float | None = None
    http_url: str | None = None


@contextmanager
def served(target: str, folder: Path) -> Iterator[Place]:
    """Serve `folder/engines/<target>`. Raises PlaceError."""
    config = CONFIG_OF_TARGET.get(target, GPU_CONFIG)
    ports = [word for kind in ("grpc", "http", "metrics") for word in (f"--{kind}-port", "0")]
    log = tempfile.mkstemp(prefix="af3-perf-server-", suffix=".log")[1]
    started = time.monotonic()
    launcher = (sys.executable, "-m", "serving.host.launch")
    command = [*launcher, "--target", target, "--folder", str(folder), "--log", log, *ports]
    process = subprocess.Popen(
        dependent(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    # Do not wait forever for a server that prints nothing.
    deadline = threading.Timer(READY_TIMEOUT_S[config] + STOP_TIMEOUT_S, process.kill)
    deadline.start()
    try:
        found = _addresses(process)
        deadline.cancel()
        yield Place(
            found["gRPC"],
            f"http://{found['metrics']}/metrics",
            process.pid,
            time.monotonic() - started,
            f"http://{found['HTTP']}",
        )
    finally:
        deadline.cancel()
        end(process, STOP_TIMEOUT_S)


def end(process: subprocess.Popen[Any], timeout_s: float) -> None:
    """Stop a server and wait; kill it when it takes longer. Does nothing when it has already ended."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def endless_served(target: str) -> Iterator[Place]:
    """Serve `engines/<target>` so that every answer has full length."""
    with tempfile.TemporaryDirectory(prefix="af3-perf-engines-") as folder:
        endless.link(Path("engines") / target, Path(folder))
        with served(target, Path(folder)) as place:
            yield place


def _addresses(process: subprocess.Popen[str]) -> dict[str, str]:
    """Read the server's output until it has printed its addresses."""
    assert process.stdout is not None
    said: list[str] = []
    found: dict[str, str] = {}
    for line in process.stdout:
        said.append(line.rstrip())
        if match := ADDRESS.match(line):
            found[match[1]] = match[2]
        if len(found) == 3:
            return found
    raise PlaceError("the server did not start: " + " ".join(said[-5:]))
