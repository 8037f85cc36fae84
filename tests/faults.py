"""Break a running server in every way an operator may see, under load, and tell what its clients saw.

Long because it is a list: one short function a fault.

python -m tests.faults            all faults, a table at the end (about ten minutes)
python -m tests.faults llm hang   those whose name holds one of the words
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from clients import AudioFlamingo, AudioFlamingoError
from serving.host.probe import health
from tests.support.clips import clip
from tests.support.engines import build_random_engines

SHARED_MEMORY = Path("/dev/shm")
LAUNCHER = "serving.host.launch"
STEPS = ("preprocess", "audio_encoder", "llm", "postprocess", "tts")
BOUND_S = 300.0
CLIENTS = 4


def launch_command(folder: Path, *options: str, module: str = LAUNCHER) -> list[str]:
    words = [
        sys.executable,
        "-m",
        module,
        "--folder",
        str(folder),
        "--log",
        str(folder / "log"),
    ]
    return [*words, "--grpc-port", "0", "--http-port", "0", "--metrics-port", "0", *options]


class Launched:
    """`python -m serving.host.launch` on free ports, as an operator starts it."""

    def __init__(self, folder: Path, *options: str, prefix: tuple[str, ...] = (), module: str = LAUNCHER):
        """prefix: a command that runs the launcher; module: another one that does what it does."""
        self.output = folder / "launch.out"
        self._module = module
        words = launch_command(folder, *options, module=module)
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*prefix, *words], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self.until(lambda: "metrics  " in self.said(), "ready")
        except BaseException:  # Ctrl-C too: nobody else knows of the process
            self.stop()
            raise
        self.url = re.search(r"gRPC +(\S+)", self.said())[1]
        self.http = re.search(r"HTTP +(\S+)", self.said())[1]
        self.metrics = re.search(r"metrics +(\S+)", self.said())[1]

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def until(self, condition: Callable[[], bool], what: str) -> float:
        """Seconds until the condition holds; fails after BOUND_S or when the launcher ends."""
        began = time.monotonic()
        while not condition():
            assert self.process.poll() is None, f"ended before {what}: {self.said()}"
            assert time.monotonic() - began < BOUND_S, f"not {what} within {BOUND_S:.0f} s: {self.said()}"
            time.sleep(0.1)
        return time.monotonic() - began

    def healthy(self) -> bool:
        return health(self.url, 15) in ("answers", "busy")

    def pids(self, word: str) -> list[int]:
        """Processes below the launcher whose command line holds `word`."""
        return sorted(pid for pid, (_, command) in self.below().items() if word in command)

    def launcher(self) -> list[int]:
        """The launcher's own process, below a shell or not; none once it has ended.

        A process that it has just forked bears its command line until it has one of its own.
        """
        called = f"{sys.executable} -m {self._module}"
        found = {pid: parent for pid, (parent, command) in self.below().items() if command.startswith(called)}
        return [pid for pid, parent in found.items() if parent not in found]

    def below(self) -> dict[int, tuple[int, str]]:
        """Parent and command line of the process that was started and of all below it."""
        rows = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                rows[int(entry.name)] = parent, (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        below = {self.process.pid}
        while more := {pid for pid, (parent, _) in rows.items() if parent in below} - below:
            below |= more
        return {pid: rows[pid] for pid in below if pid in rows}

    def step(self, name: str) -> list[int]:
        return self.pids(f"/{name}/1/model.py")

    def shared_memory(self) -> list[str]:
        """Its files there; each carries the launcher's process id."""
        own = {self.process.pid, *self.launcher()}
        return [path.name for pid in own for path in SHARED_MEMORY.glob(f"af3-*-{pid}-*")]

    def shared_stats(self) -> list[os.stat_result]:
        """Of those files, without one whose request has just ended."""
        found = []
        for name in self.shared_memory():
            with suppress(FileNotFoundError):
                found.append((SHARED_MEMORY / name).stat())
        return found

    def stop(self, timeout_s: float = 60.0) -> tuple[int, float]:
        """SIGTERM; the exit code and how long it took."""
        began = time.monotonic()
        for pid in self.launcher():
            os.kill(pid, signal.SIGTERM)
        try:
            return self.process.wait(timeout_s), time.monotonic() - began
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


def _program(pid: int) -> str:
    with suppress(OSError):  # it has just ended
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode()
    return ""


@dataclass
class Load:
    """Clients that ask one after the other, and what became of each question."""

    url: str
    model: str = "audio_flamingo"
    seen: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, place: int) -> None:
        audio = clip(0.5, seed=place)
        with AudioFlamingo(self.url, self.model) as flamingo:
            while not self.stopping.is_set():
                began = time.monotonic()
                try:
                    flamingo.ask(audio, f"What is it? {place}", max_tokens=100, timeout_s=45).text()
                    self.seen["answered"] += 1
                except AudioFlamingoError as error:
                    self.seen[f"{error.status}: {error.message.split(';')[0].split('(')[0][:60]}"] += 1
                    time.sleep(0.2)
                self.longest_s = max(self.longest_s, time.monotonic() - began)


@contextmanager
def load(url: str, model: str = "audio_flamingo", clients: int = CLIENTS) -> Iterator[Load]:
    running = Load(url, model)
    threads = [threading.Thread(target=running.run, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield running
    finally:
        running.stopping.set()
        for thread in threads:
            thread.join(BOUND_S)


@dataclass(frozen=True)
class Outcome:
    fault: str
    seen: dict[str, int]
    longest_s: float
    healthy_s: float | None
    note: str


def serving_folder(folder: Path) -> Path:
    """A folder to serve from, with engines of its own that may be broken."""
    with redirect_stdout(sys.stderr):
        engines = build_random_engines().engines
    shutil.copytree(engines, folder / "engines" / "cpu")
    return folder


def hit(server: Launched, fault: str, act: Callable[[], None], model: str = "audio_flamingo") -> Outcome:
    """Under load: strike, wait until a restart is seen and over."""
    restarts = server.said().count("; restarting ")
    ready = server.said().count("ready after")
    with load(server.url, model) as running:
        server.until(lambda: running.seen["answered"] >= CLIENTS, "answering")
        began = time.monotonic()
        act()
        server.until(lambda: server.said().count("; restarting ") > restarts, "noticed")
        noticed_s = time.monotonic() - began
        server.until(lambda: server.said().count("ready after") > ready, "ready again")
        server.until(server.healthy, "healthy again")
        healthy_s = time.monotonic() - began
        answered = running.seen["answered"]
        server.until(lambda: running.seen["answered"] > answered, "answering again")
    why = re.findall(r"^(.*); restarting ", server.said(), re.MULTILINE)[-1]
    return Outcome(
        fault, dict(running.seen), running.longest_s, healthy_s, f"noticed after {noticed_s:.0f} s: {why}"
    )


def strike(server: Launched, name: str, what: signal.Signals) -> None:
    """Send a signal to the processes of a step."""
    pids = server.step(name)
    assert pids, f"no process of {name}"
    for pid in pids:
        os.kill(pid, what)


def kill_step(name: str) -> Callable[[Path], Outcome]:
    def fault(folder: Path) -> Outcome:
        server = Launched(serving_folder(folder))
        model = "audio_flamingo_speech" if name == "tts" else "audio_flamingo"

        killing = partial(strike, server, name, signal.SIGKILL)
        return ended(server, hit(server, f"kill -9 {name}", killing, model))

    return fault


def hang_step(name: str) -> Callable[[Path], Outcome]:
    def fault(folder: Path) -> Outcome:
        server = Launched(serving_folder(folder))
        stopping = partial(strike, server, name, signal.SIGSTOP)
        return ended(server, hit(server, f"{name} hangs (SIGSTOP)", stopping))

    return fault


def kill_tritonserver(folder: Path) -> Outcome:
    server = Launched(serving_folder(folder))
    (pid,) = server.pids("bin/tritonserver")
    return ended(server, hit(server, "kill -9 tritonserver", lambda: os.kill(pid, signal.SIGKILL)))


def engines_deleted(folder: Path) -> Outcome:
    """Gone while it runs: no harm until the next start, which fails and is tried again until they are back."""
    server = Launched(serving_folder(folder))
    engines, away = folder / "engines" / "cpu", folder / "away"
    engines.rename(away)
    alive = server.healthy()
    strike(server, "llm", signal.SIGKILL)
    server.until(lambda: "start failed" in server.said(), "a failed start")
    refused = health(server.url, 15)
    away.rename(engines)
    healthy_s = server.until(server.healthy, "healthy again")
    note = f"served on without them: {alive}; while down: {refused}; healthy counted from their return"
    return ended(server, Outcome("engines deleted, LLM killed", {}, 0.0, healthy_s, note))


def engine_truncated(folder: Path) -> Outcome:
    serving_folder(folder)
    (model,) = (folder / "engines" / "cpu" / "llm").glob("*.onnx")
    os.truncate(model, model.stat().st_size // 2)
    words = launch_command(folder)
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, timeout=BOUND_S, check=False)
    note = f"exit code {done.returncode} after {time.monotonic() - began:.0f} s: {done.stderr.strip()[-90:]}"
    return Outcome("engine truncated before the start", {}, 0.0, None, note)


def disk_full(folder: Path) -> Outcome:
    """Log and journal on a disk of 64 KB, in a mount namespace of the server's own."""
    serving_folder(folder)
    (folder / "small").mkdir()
    inside = f'mount -t tmpfs -o size=64k tmpfs {folder}/small && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", inside, "sh")
    server = Launched(folder, "--journal", str(folder / "small" / "journal"), prefix=prefix)
    with load(server.url) as running:
        server.until(lambda: running.seen["answered"] >= 300, "answering on")
    return ended(
        server, Outcome("full disk under the journal", dict(running.seen), running.longest_s, 0.0, "")
    )


def terminated(folder: Path) -> Outcome:
    """SIGTERM with requests in flight."""
    server = Launched(serving_folder(folder))
    with load(server.url) as running:
        server.until(lambda: running.seen["answered"] >= CLIENTS, "answering")
        outcome = ended(server, Outcome("SIGTERM under load", running.seen, 0.0, None, ""))
        running.stopping.set()
    return Outcome(outcome.fault, dict(running.seen), running.longest_s, None, outcome.note)


def ended(server: Launched, outcome: Outcome) -> Outcome:
    """Stop the server and note how it went and what it left."""
    held = server.shared_memory()
    code, seconds = server.stop()
    left = sum((SHARED_MEMORY / name).exists() for name in held)
    end = f"stopped in {seconds:.0f} s with code {code}, {left} of {len(held)} files left in /dev/shm"
    return Outcome(
        outcome.fault,
        outcome.seen,
        outcome.longest_s,
        outcome.healthy_s,
        f"{outcome.note}; {end}".strip("; "),
    )


FAULTS: dict[str, Callable[[Path], Outcome]] = {
    **{f"kill {name}": kill_step(name) for name in STEPS},
    "kill tritonserver": kill_tritonserver,
    "hang llm": hang_step("llm"),
    "hang audio_encoder": hang_step("audio_encoder"),
    "engines deleted": engines_deleted,
    "engine truncated": engine_truncated,
    "disk full": disk_full,
    "terminated": terminated,
}


def main() -> int:
    words = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as by Ctrl-C: the server ends too
    print("| fault | healthy again | longest request | what clients saw | |\n|---|---|---|---|---|")
    for name, fault in FAULTS.items():
        if words and not any(word in name for word in words):
            continue
        with tempfile.TemporaryDirectory(prefix="af3-faults-") as folder:
            found = fault(Path(folder))
        seen = ", ".join(f"{count} × {what}" for what, count in found.seen.items())
        healthy = "–" if found.healthy_s is None else f"{found.healthy_s:.0f} s"
        print(f"| {found.fault} | {healthy} | {found.longest_s:.0f} s | {seen} | {found.note} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
