"""Mixed traffic for a long time, over gRPC, HTTP (KServe, OpenAI) and WebSocket (Realtime): good, spoken, bad,
cancelled and slow requests at 1.5 times what the server takes.

python -m tests.soak --minutes 30      a table; exit code 1 when an answer was wrong or something grew
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from clients import AudioFlamingo, AudioFlamingoError
from tests.faults import Launched, serving_folder
from tests.support.clips import clip
from tests.support.other_protocols import PROTOCOLS

CAPACITY = 8  # requests in flight that the server is told to take
# 1.5 times as many, over every protocol.
CLIENTS = (
    "good",
    "good",
    "kserve",
    "openai",
    "realtime",
    "speech",
    "speech",
    "bad",
    "bad",
    "cancelled",
    "cancelled",
    "slow",
)
WAIT_S = 120
SPEECH_MODEL = "audio_flamingo_speech"
TOKENS = 60
PROMPT = "What is it?"
SAMPLE_S = 5.0
SLACK_MB = 30.0  # caches and pools that fill up once


@dataclass
class Traffic:
    """What the clients did. `wrong`: answers that differ from those of an idle server, and what is worse; `failed`:
    errors that no client had earned.
    """

    url: str
    http: str
    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    expected: dict[tuple[str, int], str] = field(default_factory=dict)

    QUESTIONS = 6

    def prepare(self) -> None:
        """Ask an idle server what it answers."""
        with AudioFlamingo(self.url) as flamingo:
            for place in range(self.QUESTIONS):
                self.expected["grpc", place] = self._ask(flamingo, place).text()
                for name, ask in PROTOCOLS.items():
                    self.expected[name, place] = ask(
                        self.http, clip(0.3 + 0.2 * place, seed=place), PROMPT, TOKENS
                    )

    def run(self, seconds: float, clients: Sequence[str] = CLIENTS) -> None:
        """All clients at once; returns when the last has ended."""
        threads = [threading.Thread(target=self._client, args=entry) for entry in enumerate(clients)]
        for thread in threads:
            thread.start()
        self.stopping.wait(seconds)
        self.stopping.set()
        for thread in threads:
            thread.join(WAIT_S)
        alive = sum(thread.is_alive() for thread in threads)
        if alive:
            self.wrong.append(f"{alive} clients hang")

    def _ask(self, flamingo: AudioFlamingo, place: int, **more: object):
        audio = [clip(0.3 + 0.2 * place, seed=place)] if place % 3 else []
        return flamingo.ask(audio, f"What is it? {place}", max_tokens=TOKENS, timeout_s=WAIT_S, **more)

    def _client(self, number: int, kind: str) -> None:
        act: Callable[[AudioFlamingo, int], None] = getattr(self, f"_{kind}", self._good)
        turn = number
        while not self.stopping.is_set():
            if kind in PROTOCOLS:
                turn += 1
                self._count(kind, lambda: self._over(kind, turn % self.QUESTIONS))  # noqa: B023
                continue
            with AudioFlamingo(self.url, SPEECH_MODEL if kind == "speech" else "audio_flamingo") as flamingo:
                turn += 1
                self._count(kind, lambda: act(flamingo, turn % self.QUESTIONS))  # noqa: B023

    def _count(self, kind: str, act: Callable[[], None]) -> None:
        try:
            act()
            self.seen[f"{kind}: as expected"] += 1
        except AudioFlamingoError as error:
            self.seen[f"{kind}: {error.status}"] += 1
            if error.status != "UNAVAILABLE" or "are in flight" not in error.message:
                self.failed.append(f"{kind}: {error}")
            self.stopping.wait(0.1)
        except Exception as error:  # the client itself broke: the connection, or what it was sent
            self.failed.append(f"{kind}: {type(error).__name__}: {error}")
            self.stopping.wait(0.1)

    def _over(self, protocol: str, place: int) -> None:
        text = PROTOCOLS[protocol](self.http, clip(0.3 + 0.2 * place, seed=place), PROMPT, TOKENS)
        self._check(protocol, place, text, protocol)

    def _check(self, kind: str, place: int, text: str, protocol: str = "grpc") -> None:
        expected = self.expected[protocol, place]
        if text != expected:
            self.wrong.append(f"{kind} {place}: {text!r} instead of {expected!r}")

    def _good(self, flamingo: AudioFlamingo, place: int) -> None:
        self._check("good", place, self._ask(flamingo, place).text())

    def _speech(self, flamingo: AudioFlamingo, place: int) -> None:
        answer, spoken = self._ask(flamingo, place), 0
        for delta in answer:
            spoken += 0 if delta.speech is None else len(delta.speech)
        self._check("speech", place, answer.text_so_far)
        if any(character.isalpha() for character in answer.text_so_far) and not spoken:
            self.wrong.append(f"speech {place}: silent")

    def _bad(self, flamingo: AudioFlamingo, place: int) -> None:
        bad = ([b"RIFF" + bytes(place)], [clip(0.5)[:-9_999]], [b""])[place % 3]
        try:
            flamingo.ask(bad, "What is it?", timeout_s=WAIT_S).text()
        except AudioFlamingoError as error:
            if error.status == "INVALID_ARGUMENT":
                return
            raise
        self.wrong.append(f"bad {place}: answered")

    def _cancelled(self, flamingo: AudioFlamingo, place: int) -> None:
        answer = self._ask(flamingo, place)
        for delta in answer:
            if delta.index == place:
                break
        answer.cancel()

    def _slow(self, flamingo: AudioFlamingo, place: int) -> None:
        answer = self._ask(flamingo, place)
        for _ in answer:
            self.stopping.wait(0.02)
        self._check("slow", place, answer.text_so_far)


@dataclass(frozen=True)
class Sample:
    """Resources of the launcher and of every process below it, together."""

    resident_mb: float
    threads: int
    files: int
    shared_mb: float


def sample(server: Launched) -> Sample:
    resident = threads = files = 0
    for pid in server.pids(""):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            resident += int(status.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in status else 0
            threads += int(status.partition("Threads:")[2].split()[0])
            files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:  # an eSpeak NG process that has just ended
            continue
    shared = sum(found.st_blocks * 512 for found in server.shared_stats())
    return Sample(resident / 1024, threads, files, shared / (1 << 20))


def resident_by_process(server: Launched) -> dict[str, float]:
    """MB of the launcher, of Triton and of each step, by name."""
    found: Counter[str] = Counter()
    for pid in server.pids(""):
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            status = Path(f"/proc/{pid}/status").read_text()
            if "VmRSS:" in status:
                step = re.search(r"/(\w+)/1/model\.py|(tritonserver) |-m ([\w.]+)", command)
                name = next(filter(None, step.groups())) if step else command[:40]
                found[name] += int(status.partition("VmRSS:")[2].split()[0])
    return {name: kilobytes / 1024 for name, kilobytes in sorted(found.items())}


def grew(samples: Sequence[Sample]) -> list[str]:
    """The resources that grew from the second to the last third of the run, by more than noise."""
    third = len(samples) // 3
    if not third:
        return []
    found = []
    for name, slack in (("resident_mb", SLACK_MB), ("threads", 3), ("files", 8), ("shared_mb", SLACK_MB)):
        before, after = (
            sum(getattr(each, name) for each in part) / third
            for part in (samples[-2 * third : -third], samples[-third:])
        )
        if after > 1.05 * before + slack:
            found.append(f"{name} grew from {before:.0f} to {after:.0f}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    minutes = parser.parse_args().minutes
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as by Ctrl-C: the server ends too
    with tempfile.TemporaryDirectory(prefix="af3-soak-") as folder:
        server = Launched(serving_folder(Path(folder)), "--max-in-flight", str(CAPACITY))
        try:
            return _soak(server, minutes)
        finally:
            code, seconds = server.stop()
            print(f"stopped in {seconds:.0f} s with code {code}")


def _soak(server: Launched, minutes: float) -> int:
    traffic = Traffic(server.url, server.http)
    traffic.prepare()
    began_with = resident_by_process(server)
    running = threading.Thread(target=traffic.run, args=(60 * minutes,))
    running.start()
    began = time.monotonic()
    samples: list[Sample] = []
    ended_with: dict[str, float] = {}
    print(
        "| minute | resident MB | threads | file handles | /dev/shm MB | requests | wrong |\n"
        + "|---" * 7
        + "|"
    )
    while running.is_alive():
        running.join(SAMPLE_S)
        now = sample(server)
        samples.append(now)
        if running.is_alive():
            ended_with = resident_by_process(server)
        if len(samples) % max(1, int(60 * minutes / SAMPLE_S / 30)) == 0:
            print(
                f"| {(time.monotonic() - began) / 60:.1f} | {now.resident_mb:.0f} | {now.threads} | {now.files}"
                f" | {now.shared_mb:.0f} | {traffic.seen.total()} | {len(traffic.wrong)} | {len(traffic.failed)} |",
                flush=True,
            )
    print("\n| process | MB at the beginning | at the end |\n|---|---|---|")
    for name, megabytes in ended_with.items():
        print(f"| {name} | {began_with.get(name, 0):.0f} | {megabytes:.0f} |")
    print("\n| what | how many |\n|---|---|")
    for what, count in sorted(traffic.seen.items()):
        print(f"| {what} | {count} |")
    bad = [*traffic.wrong[:20], *sorted(set(traffic.failed))[:20], *grew(samples)]
    bad += re.findall(r"^.*; restarting .*$", server.said(), re.MULTILINE)
    crash = (server.output.parent / "log").read_text(errors="replace").partition("Signal (11)")[1:]
    bad += "".join(crash).splitlines()[:12]
    print("\n".join(bad) or "no wrong answer, nothing grew, no restart")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
