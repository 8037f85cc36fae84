"""Frameworks of voice agents before Realtime, as the examples use them: make test-voice."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.own_environment import python_of
from tests.support.realtime_door import address, door_before

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """A server that answers every question with six seconds of speech."""
    with FakeTriton() as triton:
        triton.unprompted = "say=word |many=30|big=8820|hz=22050"
        with door_before(triton) as made:
            yield made


@pytest.mark.parametrize("example", ["livekit_talk.py", "pipecat_talk.py"])
def test_a_question_by_voice_is_answered_by_voice(example: str, door: Door) -> None:
    base = f"{address(door).replace('ws:', 'http:')}/v1"
    done = subprocess.run(
        [python_of("voice"), REPOSITORY / "examples" / "realtime" / example],
        env={**os.environ, "OPENAI_BASE_URL": base, "OPENAI_API_KEY": "none"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [("word " * 30).strip(), "6.0 s of speech"]
