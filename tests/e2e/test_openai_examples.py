"""The examples that need no more than `openai`, curl or node, as they stand, before the live server."""

import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Sequence
from pathlib import Path

import pytest

from serving.door.door import Door
from serving.host.triton import REPOSITORY
from tests.support.openai_api import base_url
from tests.support.wire import ask, text_of

EXAMPLES = REPOSITORY / "examples"
SIREN = (REPOSITORY / "checkpoints" / "samples" / "siren.wav").read_bytes()


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def run(server: Door, command: Sequence[str], folder: Path) -> str:
    environment = {**os.environ, "OPENAI_BASE_URL": base_url(server), "OPENAI_API_KEY": "none"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def answer(server: Door) -> str:
    """The answer about the siren over gRPC."""
    return text_of(ask(server.url, [SIREN], "What do you hear?", parameters={"max_tokens": 64}))


def test_chat(server: Door, answer: str, tmp_path: Path) -> None:
    found = run(server, [sys.executable, str(EXAMPLES / "openai_chat.py")], tmp_path)
    assert found.startswith(answer)
    assert len(found) > len(answer) + 2


def test_voice(server: Door, answer: str, tmp_path: Path) -> None:
    found = run(server, [sys.executable, str(EXAMPLES / "openai_voice.py"), str(tmp_path)], tmp_path)
    assert answer in found
    with wave.open(str(tmp_path / "speech.wav")) as file:
        assert file.getframerate() == 22_050
    assert (tmp_path / "answer.mp3").stat().st_size > 1000


@needs("curl")
def test_curl(server: Door, tmp_path: Path) -> None:
    found = run(server, [str(EXAMPLES / "openai.sh")], tmp_path)
    assert '"id":"audio_flamingo"' in found.replace(" ", "")
    assert "data: [DONE]" in found
    assert "00:00:00,000 --> " in found
    assert int(found.split()[-1]) > 1000


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example and the package of npm that its lock file names."""
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json", "openai_chat.mjs"):
        shutil.copy(EXAMPLES / name, folder / name)
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=120)
    return folder


@needs("npm")
def test_node(server: Door, answer: str, packages: Path) -> None:
    clip = REPOSITORY / "checkpoints" / "samples" / "siren.wav"
    found = run(server, ["node", "openai_chat.mjs", str(clip)], packages)
    assert found == f"{answer}\n{answer}\n"
