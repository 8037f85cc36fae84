"""What every attack has: a server, honest clients that ask all the while, and what must be left afterwards."""

from __future__ import annotations

import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.support import scrape

if TYPE_CHECKING:
    from tests.faults import Launched  # not at work: it imports what builds engines, for half a minute

HONEST = "127.0.0.2"  # an address of the honest; attackers come from others
HONESTS = (HONEST, "127.0.0.3")  # each of them is a client, with an address of its own
STRANGER = "127.0.0.66"
PATIENCE_S = 60.0
NOISE_S = 0.25  # below it twice as long is the machine's noise, not harm


@dataclass
class Attack:
    """`play` returns what happened, and raises AssertionError where the server did not hold."""

    name: str
    fault: str  # its number in the review, or its line in the table of what must hold
    play: Callable[[Scene], str]
    quick: bool = True
    server: tuple[str, ...] = ()  # options of the launcher
    file_handles: int | None = None
    kills: bool = False  # restarts are the point of it
    window_s: float = 0.0  # the encoder takes so long over a window


@dataclass
class Scene:
    """A launched server under attack. `keys`: by the name of their holder."""

    server: Launched
    quick: bool
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return str(urlsplit(self.server.http).hostname)

    @property
    def port(self) -> int:
        return int(urlsplit(self.server.http).port or 0)

    def connect(self, source: str = STRANGER, timeout_s: float = PATIENCE_S) -> socket.socket:
        """A connection to the HTTP port."""
        return socket.create_connection((self.host, self.port), timeout_s, source_address=(source, 0))

    def count(self, many: int, few: int) -> int:
        return few if self.quick else many

    def sample(self, name: str) -> float:
        return scrape.samples(self.server.metrics).get(name, 0.0)

    def in_flight(self) -> float:
        return self.sample("af3_requests_in_flight")

    def restarts(self) -> int:
        return self.server.said().count("; restarting ")

    def resident_mb(self) -> float:
        """Memory of the launcher's process, which holds the door."""
        for pid in self.server.launcher():
            with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
                return int(status.read().partition("VmRSS:")[2].split()[0]) / 1024
        return 0.0

    def files(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.server.launcher())  # noqa: PTH208


def head(length: int, path: str = "/v2/models/audio_flamingo/generate_stream", *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def to_the_end(connection: socket.socket) -> bytes:
    """All that the server still sends; b"" for a connection that it broke off."""
    found = b""
    try:
        while block := connection.recv(65536):
            found += block
    except OSError:
        pass
    return found


def generate(
    scene: Scene | Address,
    prompt: str = "What is it?",
    tokens: int = 8,
    source: str = HONEST,
    key: str | None = None,
) -> tuple[int, str]:
    """One whole answer over HTTP: its code, and its text or error."""
    connection = http.client.HTTPConnection(
        scene.host, scene.port, timeout=PATIENCE_S, source_address=(source, 0)
    )
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        body = json.dumps({"prompt": prompt, "max_tokens": tokens})
        connection.request("POST", "/v2/models/audio_flamingo/generate", body, headers)
        reply = connection.getresponse()
        found = json.loads(reply.read())
        return reply.status, found["text"] if reply.status == 200 else str(found["error"])
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 0, f"{type(error).__name__}: {error}"
    finally:
        connection.close()


@dataclass(frozen=True)
class Address:
    """An address of the HTTP port."""

    host: str
    port: int


@dataclass
class Honest:
    """Two clients, each at its own address, that ask one question after the other, as on a quiet server.

    In a process of their own: what the attacker computes must not slow their clock.
    """

    scene: Scene
    times_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    expected: str = ""

    @contextmanager
    def asking(self) -> Iterator[None]:
        words = [self.scene.host, self.scene.port, self.scene.keys.get("honest"), self.expected]
        command = [sys.executable, "-m", "tests.attack.honest_clients"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(words) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "asking\n"
            try:
                yield
            finally:
                process.stdin.close()
                self.times_s, self.errors = json.loads(process.stdout.readline())


def worst(times_s: Iterable[float], share: float = 0.99) -> float:
    found = sorted(times_s)
    return found[min(len(found) - 1, int(share * len(found)))] if found else float("inf")


def raise_own_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def at_once(count: int, act: Callable[[int], None], threads: int = 64) -> None:
    """act(0), act(1) … by so many threads."""
    waiting = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                number = next(waiting, None)
            if number is None:
                return
            act(number)

    workers = [threading.Thread(target=work) for _ in range(min(count, threads))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
