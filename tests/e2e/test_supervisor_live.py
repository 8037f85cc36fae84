"""A real Triton that is slow is left alone; one that hangs is replaced. With less patience than an operator has."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients import AudioFlamingo
from serving.host.patience import Patience
from tests.support.clips import clip
from tests.support.engines import BuiltEngines
from tests.support.slow_encoder import slowed
from tests.support.supervised import Supervised

WINDOW_S = 6.0
WAIT_S = 120
# A window takes longer than a probe may, and all windows of a clip longer than Triton may be silent.
PATIENCE = Patience(start=120, probe_every=0.5, probe_timeout=1, silence=4, still=20, stall=4, drain=1)


@pytest.fixture(scope="module")
def supervised(engines: BuiltEngines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    folder: Path = tmp_path_factory.mktemp("supervised")
    (folder / "engines").symlink_to(engines.engines.parent)
    running = Supervised(folder, "cpu", PATIENCE, slowed(folder, WINDOW_S))
    running.until(lambda: running.door.admission.ready)
    yield running
    running.close()


def test_a_long_encode_is_answered_and_nothing_is_replaced(supervised: Supervised) -> None:
    began = time.monotonic()
    with AudioFlamingo(supervised.door.url) as flamingo:
        answer = flamingo.ask(clip(88.0), "What is it?", max_tokens=3, timeout_s=WAIT_S).text()
    assert answer is not None
    assert time.monotonic() - began > 2 * WINDOW_S
    assert supervised.supervisor.restarts == []


@pytest.mark.parametrize("name", ["llm", "audio_encoder", "preprocess"])
def test_a_step_that_does_not_run_is_replaced(supervised: Supervised, name: str) -> None:
    before = len(supervised.supervisor.restarts)
    assert supervised.server is not None
    for pid in [pid for pid, step in supervised.server.steps().items() if step == name]:
        os.kill(pid, signal.SIGSTOP)
    supervised.until(lambda: len(supervised.supervisor.restarts) > before)
    # By the probe's request, after a second; the missing heartbeat would be noticed later.
    assert "gave up a step" in supervised.supervisor.restarts[-1]
    supervised.until(lambda: supervised.door.admission.ready)


def test_other_users_cannot_read_the_requests_in_shared_memory(supervised: Supervised) -> None:
    assert supervised.server is not None
    files = list(Path("/dev/shm").glob(f"af3-*-{supervised.server.ports.grpc}-*"))
    assert files and all(path.stat().st_mode & 0o077 == 0 for path in files)
