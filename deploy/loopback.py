"""Processes and ports on this machine: what servers and proxies of a cluster on loopback share."""

from __future__ import annotations

import random
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from typing_extensions import Self

from deploy.envoy import HOST
from serving.address import Ports, ServerError, claim


class Running:
    """A context manager: what `open` gives to `stack` is closed at the end, or at once when `open` fails."""

    def __init__(self) -> None:
        self.stack = ExitStack()

    def open(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stack.close()


def get(port: int, path: str, tls: bool = False) -> str:
    """What a loopback port answers to a GET; whose certificate it has is not looked at."""
    unverified = ssl._create_unverified_context() if tls else None
    url = f"{'https' if tls else 'http'}://{HOST}:{port}{path}"
    with urllib.request.urlopen(url, timeout=5, context=unverified) as reply:
        text: str = reply.read().decode()
    return text


def own_ports() -> Ports:
    """Free ones that stay so while their server restarts: below those that the system gives to connections."""
    while True:
        try:
            return claim(Ports(*random.sample(range(15_000, 32_000), 3)), HOST)
        except ServerError:
            continue


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until it is true; False when time is up."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def answers(port: int, path: str, tls: bool) -> bool:
    try:
        get(port, path, tls)
    except (urllib.error.URLError, OSError):
        return False
    return True


def ended(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
