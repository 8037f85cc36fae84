"""What a server does with voices that cannot be loaded."""

import logging
from pathlib import Path

import pytest

from af3.speech.built_voice import available_voices
from af3.speech.catalogue import Catalogue
from af3.speech.engines import espeak
from af3.speech.voice import VoiceFailed


@pytest.fixture
def no_espeak(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where `espeakng-loader` is not installed."""
    monkeypatch.setattr(espeak.importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def broken_voice(tmp_path: Path) -> Path:
    """Engines with a neural voice whose files are of another version."""
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "voice.json").write_text('{"name": "broken", "sample_rate": 16000}')
    return tmp_path


def test_a_missing_library_is_told_once_with_the_remedy_and_the_catalogue_is_empty(
    no_espeak: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "af3"):
        catalogue = Catalogue.load(tmp_path, threads=2)
    assert len(caplog.records) == 1
    assert "make setup" in caplog.text
    assert catalogue.voices == ()
    for name in (None, "en-us"):
        with pytest.raises(VoiceFailed, match="could not be loaded; the log of the server says why"):
            catalogue.voice(name, 1.0)
    catalogue.close()


def test_without_the_neural_voice_an_offline_one_is_the_default(broken_voice: Path) -> None:
    catalogue = Catalogue.load(broken_voice, threads=1)
    try:
        assert available_voices(broken_voice)[0] == "broken"
        assert catalogue.voices == tuple(espeak.VOICES)
        assert catalogue.voice(None, 1.0).sample_rate == espeak.SAMPLE_RATE
        with pytest.raises(VoiceFailed, match="'broken'"):
            catalogue.voice("broken", 1.0)
    finally:
        catalogue.close()
