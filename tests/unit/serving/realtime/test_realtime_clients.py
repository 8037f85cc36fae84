"""Clients that others wrote, as the examples use them: `openai` of PyPI, `@openai/agents-realtime` of npm."""

import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.realtime_door import QUESTION, address, door_before

EXAMPLES = Path(__file__).parents[4] / "examples" / "realtime"


@pytest.fixture(scope="module")
def talking() -> Iterator[Door]:
    """A server that answers every question with six seconds of speech."""
    with FakeTriton() as triton:
        triton.unprompted = "say=word |many=30|big=8820|hz=22050"
        with door_before(triton) as door:
            yield door


def run(door: Door, command: Sequence[str | Path], folder: Path) -> list[str]:
    base = f"{address(door).replace('ws:', 'http:')}/v1"
    environment = {**os.environ, "OPENAI_BASE_URL": base, "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_openai_of_pypi_asks_by_voice_and_hears_the_answer(talking: Door, tmp_path: Path) -> None:
    out = tmp_path / "reply.wav"
    found = run(talking, [sys.executable, EXAMPLES / "openai_talk.py", "--out", out], tmp_path)
    assert found == ["word " * 30]
    with wave.open(str(out)) as file:
        assert file.getnframes() / file.getframerate() == pytest.approx(6.0, abs=0.01)


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_openais_agents_ask_interrupt_and_go_on(talking: Door, tmp_path: Path) -> None:
    for name in ("package.json", "package-lock.json", "agents_talk.mjs"):
        shutil.copy(EXAMPLES / name, tmp_path / name)
    subprocess.run(
        ["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=tmp_path, check=True, timeout=240
    )
    first, second, figures = run(talking, ["node", "agents_talk.mjs", QUESTION], tmp_path)
    assert first.startswith("cancelled: word")
    assert second == "completed: " + "word " * 30
    assert figures.startswith("turns 2, interruptions 1, bytes ")
