"""A slow step, a hung one and a dead one, told apart by what they write."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.heartbeat import Heart, Pulse, pulses

WAIT_S = 30
STEP = """
import sys, time
from serving.heartbeat import Heart
heart = Heart("llm")
print("up", flush=True)
for line in sys.stdin:
    (heart.moved if line.strip() == "moved" else heart.idle)()
    print("done", flush=True)
"""


class Step:
    """A process of its own that does what it is told."""

    def __init__(self, prefix: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", STEP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"AF3_HEARTBEATS": prefix},
        )
        self._expect("up")

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        self._expect("done")

    def _expect(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return f"{tmp_path}/af3-1-2-3-heart-"


@pytest.fixture
def step(prefix: str) -> Iterator[Step]:
    running = Step(prefix)
    yield running
    running.process.kill()
    running.process.communicate()


def until(prefix: str, condition: Callable[[Pulse], bool]) -> Pulse:
    end = time.monotonic() + WAIT_S
    while True:
        (pulse,) = pulses(prefix)
        if condition(pulse):
            return pulse
        assert time.monotonic() < end, pulse
        time.sleep(0.05)


def test_a_step_that_waits_for_work_beats_and_is_not_at_work(step: Step, prefix: str) -> None:
    (pulse,) = pulses(prefix)
    assert (pulse.step, pulse.working, pulse.still_s) == ("llm", False, 0.0)
    time.sleep(1.5)
    (pulse,) = pulses(prefix)
    assert pulse.silent_s < 1.2


def test_a_step_at_work_says_when_it_last_moved_on(step: Step, prefix: str) -> None:
    step.tell("moved")
    pulse = until(prefix, lambda pulse: pulse.still_s > 1)
    assert pulse.working and pulse.silent_s < 1.2
    told_s = time.monotonic()
    step.tell("moved")
    (pulse,) = pulses(prefix)
    assert pulse.still_s <= time.monotonic() - told_s
    step.tell("idle")
    (pulse,) = pulses(prefix)
    assert not pulse.working and pulse.still_s == 0


def test_a_process_that_does_not_run_falls_silent(step: Step, prefix: str) -> None:
    os.kill(step.process.pid, signal.SIGSTOP)
    until(prefix, lambda pulse: pulse.silent_s > 1.5)
    os.kill(step.process.pid, signal.SIGCONT)
    until(prefix, lambda pulse: pulse.silent_s < 1)


def test_work_is_over_also_when_it_failed(prefix: str) -> None:
    heart = Heart("preprocess", prefix)
    with pytest.raises(ValueError, match="bad clip"), heart.at_work():
        assert pulses(prefix)[0].working
        raise ValueError("bad clip")
    assert not pulses(prefix)[0].working


def test_nobody_else_may_read_the_files(prefix: str) -> None:
    Heart("tts", prefix)
    (path,) = Path(prefix).parent.iterdir()
    assert path.stat().st_mode & 0o077 == 0


def test_without_a_supervisor_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AF3_HEARTBEATS", raising=False)
    with Heart("llm").at_work():
        pass


def test_a_heartbeat_that_cannot_be_written_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    with Heart("llm", "/nope/heart-").at_work():
        pass
    assert "no heartbeat of llm" in caplog.text


def test_a_file_that_is_not_yet_written_is_left_out(prefix: str) -> None:
    Path(f"{prefix}llm-1").touch()
    assert pulses(prefix) == []
