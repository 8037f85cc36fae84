"""The neural voice on a live server, and a server one of whose voices cannot be loaded."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from build_engines import stage
from build_engines.voice import export_voice
from tests.support.clips import clip
from tests.support.engines import BuiltEngines
from tests.support.hearing import LONG, hear
from tests.support.ready_server import ready_server
from tests.support.vits_checkpoint import save_checkpoint
from tests.support.wire import ask, text_of


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """gRPC address of a server on `folder/engines/cpu`."""
    with ready_server(folder) as server:
        yield server.url


@pytest.fixture(scope="module")
def neural(engines: BuiltEngines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose engines were built with a voice."""
    folder: Path = tmp_path_factory.mktemp("neural")
    shutil.copytree(engines.engines, folder / "engines" / "cpu")
    checkpoint = save_checkpoint(folder / "tiny-voice")
    stage.run([export_voice.stage(str(checkpoint))], folder / "engines" / "cpu")
    with serving(folder) as url:
        yield url


@pytest.fixture(scope="module")
def broken(engines: BuiltEngines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose voice is of another version."""
    folder: Path = tmp_path_factory.mktemp("broken")
    shutil.copytree(engines.engines, folder / "engines" / "cpu")
    (folder / "engines" / "cpu" / "voice").mkdir()
    (folder / "engines" / "cpu" / "voice" / "voice.json").write_text(json.dumps({"name": "broken"}))
    with serving(folder) as url:
        yield url


def silent(url: str, seed: int) -> str:
    """The text of `hear(url, seed)`, asked of the ensemble without speech."""
    return text_of(ask(url, [clip(0.5, seed=seed)], "Go on.", parameters={**LONG, "seed": seed}))


def test_a_neural_voice_speaks_unless_another_is_asked_for(neural: str) -> None:
    heard = hear(neural, seed=1)
    assert heard.rates == {16000}
    assert heard.spoken
    assert heard.text.startswith(heard.spoken)
    assert heard.errors == []
    assert max(map(len, heard.blocks)) <= 0.15 * 16000
    assert heard.text == silent(neural, seed=1)
    assert hear(neural, seed=1, voice="en-us").rates == {22050}


def test_a_voice_that_cannot_be_loaded_leaves_text_and_the_other_voices_unharmed(broken: str) -> None:
    asked_for = hear(broken, seed=2, voice="broken")
    assert asked_for.errors == ["voice 'broken' could not be loaded; the log of the server says why"]
    assert asked_for.blocks == []
    assert asked_for.text == silent(broken, seed=2)
    other = hear(broken, seed=2)
    assert other.rates == {22050}
    assert other.errors == []
    assert other.text == asked_for.text
