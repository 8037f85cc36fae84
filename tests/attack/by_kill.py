"""kill -9 of every process in turn, while clients ask over every protocol; and what is left of servers that end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.attack.askers import ASKERS, ask
from tests.attack.scene import Attack, Scene
from tests.faults import STEPS, Launched
from tests.support import scrape

DIED = "a part of the server failed and is being restarted"
STARTING = "the server is starting"
TOLERATED_FILES = 8  # connections that clients hold while the rest is counted
GONE_S = 30.0
PATIENT_S = 300.0  # a server takes five seconds to be back, or minutes on a machine whose cores are all taken
DECODER = "the process that decodes clips"


@dataclass(frozen=True)
class Victim:
    """`word`: in the command line of the process. `restarts`: Triton is replaced when it dies; else nobody notices."""

    name: str
    word: str
    restarts: bool


VICTIMS = (
    *(Victim(name, f"/{name}/1/model.py", True) for name in STEPS),
    Victim("tritonserver", "bin/tritonserver", True),
    Victim(DECODER, "af3.inputs.decoder_worker", False),
    Victim("eSpeak NG", "espeak_worker.py", False),
    Victim("the process that hears", "sound_process", False),
)
QUICK = ("llm", DECODER, "eSpeak NG", "the process that hears")


@dataclass
class Asking:
    """What the clients of each protocol saw."""

    seen: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in ASKERS})

    def answered(self) -> Callable[[], bool]:
        """True once each protocol has been answered twice from now on: the first may have begun before."""
        before = {name: counts["answered"] for name, counts in self.seen.items()}
        return lambda: all(counts["answered"] >= before[name] + 2 for name, counts in list(self.seen.items()))

    def refusals(self) -> dict[str, set[str]]:
        return {name: {what for what in counts if what != "answered"} for name, counts in self.seen.items()}


@contextmanager
def asking(scene: Scene) -> Iterator[Asking]:
    """One client of each protocol, all the while."""
    found, stopping = Asking(), threading.Event()

    def run(name: str) -> None:
        while not stopping.is_set():
            what = ask(scene, name)
            found.seen[name][what] += 1
            if what != "answered":
                stopping.wait(0.2)

    threads = [threading.Thread(target=run, args=(name,)) for name in ASKERS]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        stopping.set()
        for thread in threads:
            thread.join(90)


def kill_every_process(scene: Scene) -> str:
    for name in ASKERS:  # starts what is started with the first request
        assert ask(scene, name) == "answered", name
    victims = [one for one in VICTIMS if not scene.quick or one.name in QUICK]
    for victim in victims:
        _kill(scene, victim)
    names = ", ".join(victim.name for victim in victims)
    return f"{names}: the same two sentences over {', '.join(ASKERS)}; nothing left, answers again"


def _kill(scene: Scene, victim: Victim) -> None:
    left = Left(scene.server)
    with asking(scene) as clients:
        wait(clients.answered(), f"{victim.name}, before: not every protocol was answered")
        restarts = scene.restarts()
        killed = scene.server.pids(victim.word)[0]
        os.kill(killed, signal.SIGKILL)
        if victim.restarts:
            wait(lambda: scene.restarts() > restarts, f"{victim.name}: the server was not replaced")
            wait(scene.server.healthy, f"{victim.name}: the server was not healthy again")
        wait(clients.answered(), f"{victim.name}, after: not every protocol was answered")
    allowed = {DIED, STARTING} if victim.restarts else set()
    wrong = {name: said - allowed for name, said in clients.refusals().items() if said - allowed}
    assert not wrong, f"{victim.name}: {wrong}"
    assert victim.restarts or scene.restarts() == restarts, f"{victim.name}: Triton was replaced"
    left.check(scene, victim.name)


def wait(condition: Callable[[], bool], what: str, timeout_s: float = PATIENT_S) -> None:
    scrape.wait_until(condition, timeout_s, what)


class Left:
    """What a server had, to be compared with what is left of it."""

    def __init__(self, server: Launched):
        self._server = server
        self._processes = {pid: _start(pid) for pid in server.below()}
        self._kinds = _kinds(server)
        self._shared = _shared(server)
        self._files = sum(map(_files, server.launcher()))

    def check(self, scene: Scene, name: str) -> None:
        """Wait until no process is nobody's child, none of a kind is there more than before, and no file."""
        wait(lambda: scene.in_flight() == 0, f"{name}: requests were still in flight", GONE_S)
        with suppress(AssertionError):  # what is too much is said below
            wait(lambda: not self.too_much(), name, GONE_S)
        assert not (more := self.too_much()), f"{name}: {more}"

    def too_much(self) -> str:
        """What there is more of than before; one that has just ended counts until its parent has noticed."""
        if orphans := self.orphans():
            return f"processes {orphans} are still there"
        if more := _kinds(self._server) - self._kinds:
            return f"{dict(more)} more"
        if (shared := _shared(self._server)) > self._shared:
            return f"{self._shared} → {shared} files in /dev/shm"
        if (files := sum(map(_files, self._server.launcher()))) > self._files + TOLERATED_FILES:
            return f"{self._files} → {files} handles"
        return ""

    def gone(self, name: str) -> None:
        """Wait until no process of a server that has ended is left."""
        wait(lambda: not self.orphans(), f"{name}: processes were still there", GONE_S)

    def orphans(self) -> list[int]:
        """Processes that are still there, and no longer below the launcher."""
        below = self._server.below()
        return [
            pid
            for pid, start in self._processes.items()
            if pid not in below and start and _start(pid) == start
        ]


def _kinds(server: Launched) -> Counter[str]:
    """How many processes there are of each. A step that has not decoded yet will start its decoder."""
    found = Counter(
        next((one.name for one in VICTIMS if one.word in command), command.partition(" ")[0])
        for _, command in server.below().values()
    )
    found[DECODER] = max(found[DECODER], len(server.step("preprocess")))
    return found


def _shared(server: Launched) -> int:
    """Files in /dev/shm, without the lengths of prompts: answers whose client left leave those until they are swept."""
    return sum("-prompt-" not in name for name in server.shared_memory())


def _start(pid: int) -> str:
    """When it began, which with its id is its own; "" for one that has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""


def _files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


def kill_launcher(scene: Scene) -> str:
    """Of a server beside this one; then another on its ports."""
    folder = _beside(scene, "killed")
    first = Launched(folder)
    held, left = first.shared_memory(), Left(first)
    first.process.kill()
    first.process.wait()
    began = time.monotonic()
    ports = (
        *("--grpc-port", first.url.rpartition(":")[2]),
        *("--http-port", first.http.rpartition(":")[2]),
    )
    second = Launched(folder, *ports)
    try:
        ready_s = time.monotonic() - began
        left.gone("the first server")
        remaining = [name for name in held if Path("/dev/shm", name).exists()]
        assert held and not remaining, remaining
        beside = Scene(second, scene.quick)
        assert {ask(beside, name) for name in ASKERS} == {"answered"}
    finally:
        second.stop()
    return f"another answers on its ports after {ready_s:.0f} s; no process, nothing in /dev/shm"


def stop_and_start(scene: Scene) -> str:
    """Of servers beside this one, on its engines."""
    folder, times = _beside(scene, "cycles"), []
    count = scene.count(30, 1)
    for _ in range(count):
        began = time.monotonic()
        other = Launched(folder)
        left = Left(other)
        assert ask(Scene(other, scene.quick), "gRPC") == "answered"
        code, _ = other.stop()
        assert code == 0, other.said()
        left.gone("a server that was stopped")
        assert not list(Path("/dev/shm").glob(f"af3-*-{other.process.pid}-*"))
        times.append(time.monotonic() - began)
    return f"{count} cycles, {max(times):.0f} s the longest: no process, nothing in /dev/shm"


def _beside(scene: Scene, name: str) -> Path:
    folder = scene.server.output.parent / name
    folder.mkdir(exist_ok=True)
    if not (folder / "engines").exists():
        (folder / "engines").symlink_to(scene.server.output.parent / "engines")
    return folder


ATTACKS = [
    Attack("kill -9 of every process", "10, table", kill_every_process, kills=True),
    Attack("kill -9 of the launcher", "table", kill_launcher, quick=False, kills=True),
    Attack("stop and start", "table", stop_and_start, quick=False, kills=True),
]
