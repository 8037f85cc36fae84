"""A live server with a Kokoro of its own kind, small and random: names, mixes, sample rates, order, failure."""

import json
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from af3.speech.engines.kokoro import KokoroSynthesizer
from af3.speech.pcm import shape
from af3.speech.spoken.markup import plain
from build_engines import stage
from build_engines.voice import choose_voice
from serving.door.door import Door
from tests.e2e.conftest import door_before, triton_on
from tests.support import scrape
from tests.support.clips import clip
from tests.support.engines import BuiltEngines
from tests.support.hearing import LONG, SPEECH, Heard, hear
from tests.support.kokoro_model import save_kokoro
from tests.support.wire import Refused, Stream, ask, text_of

HZ = 24000


@pytest.fixture(scope="module")
def folder(engines: BuiltEngines, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With engines and the voice."""
    folder: Path = tmp_path_factory.mktemp("kokoro")
    shutil.copytree(engines.engines, folder / "engines" / "cpu")
    stage.run([choose_voice.stage(str(save_kokoro(folder / "tiny")))], folder / "engines" / "cpu")
    return folder


@pytest.fixture(scope="module")
def door(folder: Path) -> Iterator[Door]:
    with triton_on(folder) as triton, door_before(triton) as door:
        yield door


@pytest.fixture
def address(door: Door) -> str:
    return door.url


@pytest.fixture(scope="module")
def voices(folder: Path) -> Iterator[KokoroSynthesizer]:
    synthesizer = KokoroSynthesizer.load(folder / "engines" / "cpu" / "voice")
    yield synthesizer
    synthesizer.close()


def spoken_here(voices: KokoroSynthesizer, name: str, text: str) -> np.ndarray:
    """The speech of one segment, made in this process."""
    voice = voices.voice(name, 1.0)
    return np.concatenate(list(shape(voice.speak(voice.speakable(plain(text))), HZ, 0.0)))


def pcm_of(heard: Heard, number: int) -> np.ndarray:
    """The speech of one segment, without the pause before it."""
    ends = [*heard.starts[1:], len(heard.blocks)]
    pcm = np.concatenate(heard.blocks[heard.starts[number] : ends[number]])
    return pcm[np.flatnonzero(pcm)[0] :]


def same(pcm: np.ndarray, expected: np.ndarray) -> bool:
    return np.array_equal(pcm, expected[np.flatnonzero(expected)[0] :])


def test_it_is_the_default_and_speaks_at_its_own_sample_rate(address: str) -> None:
    heard = hear(address, seed=1)
    assert heard.rates == {HZ}
    assert heard.errors == []
    assert heard.text.startswith(heard.spoken)
    assert max(map(len, heard.blocks)) <= 0.15 * HZ
    assert heard.text == text_of(ask(address, [clip(0.5, seed=1)], "Go on.", parameters={**LONG, "seed": 1}))


def test_the_first_segment_is_short(address: str) -> None:
    assert all(len(plain(hear(address, seed=seed).segments[0])) <= 45 for seed in (1, 2, 3))


@pytest.mark.parametrize(
    ("name", "voice"),
    [
        ("af_sky", "af_sky"),
        ("marin", "af_heart"),
        ("shimmer", "bf_emma"),
        ("af_heart:0.7+af_sky:0.3", "af_heart:0.7+af_sky:0.3"),
    ],
)
def test_a_request_is_spoken_by_the_voice_it_names(
    address: str, voices: KokoroSynthesizer, name: str, voice: str
) -> None:
    heard = hear(address, seed=4, voice=name, max_tokens=60)
    assert heard.rates == {HZ}
    assert same(pcm_of(heard, 0), spoken_here(voices, voice, heard.segments[0]))


def test_an_offline_voice_can_still_be_asked_for(address: str) -> None:
    assert hear(address, seed=1, voice="en-gb", max_tokens=60).rates == {22050}


@pytest.mark.parametrize(
    ("name", "said"),
    [("nobody", "choose one of af_heart, af_sky"), ("af_heart+en-us", "'en-us' cannot be mixed")],
)
def test_a_voice_that_is_not_there_is_refused_with_those_that_are(address: str, name: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        list(
            Stream(address, [clip(0.5, seed=1)], "Go on.", parameters={"voice": name}, model=SPEECH).results()
        )


def test_the_speech_of_16_requests_at_once_is_that_of_their_own_text_and_voice(
    address: str, voices: KokoroSynthesizer
) -> None:
    """Sample for sample: each segment as this process speaks it, so nothing of another request is in it."""
    names = ("af_heart", "af_sky", "am_adam", "bf_emma")
    seeds = range(40, 56)
    with ThreadPoolExecutor(len(seeds)) as pool:
        together = list(
            pool.map(lambda seed: hear(address, seed, voice=names[seed % 4], max_tokens=80), seeds)
        )
    assert len({heard.text for heard in together}) == len(seeds)
    for seed, heard in zip(seeds, together, strict=True):
        assert heard.errors == []
        assert heard.rates == {HZ}
        assert heard.text.startswith(heard.spoken)
        assert heard.segments
        for number, text in enumerate(heard.segments):
            assert same(pcm_of(heard, number), spoken_here(voices, names[seed % 4], text)), (seed, text)


def test_a_saved_answer_has_the_voices_sample_rate(address: str, tmp_path: Path) -> None:
    question, reply = tmp_path / "question.wav", tmp_path / "reply.wav"
    question.write_bytes(clip(1.0, seed=5))
    command = [
        sys.executable,
        "-m",
        "clients.commands.talk",
        str(question),
        "--url",
        address,
        "--out",
        str(reply),
    ]
    assert subprocess.run(command, timeout=120).returncode == 0
    with wave.open(str(reply)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (HZ, 1, 2)
        assert file.getnframes() > HZ // 10


def test_speech_that_is_stopped_leaves_nothing_behind(door: Door, address: str) -> None:
    stream = Stream(address, [clip(0.5, seed=6)], "Go on.", parameters={**LONG, "seed": 6}, model=SPEECH)
    for result in stream.results():
        if result.as_numpy("speech") is not None:
            stream.cancel()
            break
    scrape.wait_until(lambda: scrape.read(door)["af3_speech_live"] == 0)


def test_a_voice_that_fails_leaves_the_text_unharmed(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "engines", tmp_path / "engines")
    settings = tmp_path / "engines" / "cpu" / "voice" / "voice.json"
    held = json.loads(settings.read_text())
    held["vocabulary"] = dict.fromkeys(held["vocabulary"], 10_000)  # the graph has no such row
    settings.write_text(json.dumps(held))
    with triton_on(tmp_path) as triton, door_before(triton) as door:
        heard = hear(door.url, seed=7)
        assert heard.errors == ["the natural voice failed on a segment"]
        assert heard.blocks == []
        silent = ask(door.url, [clip(0.5, seed=7)], "Go on.", parameters={**LONG, "seed": 7})
        assert heard.text == text_of(silent)
        assert hear(door.url, seed=7, voice="en-us").errors == []
