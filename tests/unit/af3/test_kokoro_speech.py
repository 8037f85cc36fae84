"""Kokoro's phonemes, from the real eSpeak NG, and its voices, on a small random graph.

Long because of the tables of words.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from af3.speech.built_voice import available_voices
from af3.speech.catalogue import Catalogue
from af3.speech.engines import kokoro
from af3.speech.engines.espeak import EspeakSynthesizer
from af3.speech.engines.kokoro import KokoroSynthesizer, parts
from af3.speech.engines.kokoro_phonemes import AMERICAN, BRITISH, phonemes
from af3.speech.pcm import shape
from af3.speech.voice import VoiceFailed
from build_engines.stage import run
from build_engines.voice import choose_voice
from tests.support.kokoro_model import save_kokoro


@pytest.fixture(scope="module")
def espeak() -> Iterator[EspeakSynthesizer]:
    synthesizer = EspeakSynthesizer(1)
    yield synthesizer
    synthesizer.close()


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("engines")
    run([choose_voice.stage(str(save_kokoro(folder / "tiny")))], folder)
    return folder


@pytest.fixture(scope="module")
def voices(engines: Path) -> Iterator[KokoroSynthesizer]:
    synthesizer = KokoroSynthesizer.load(engines / "voice")
    yield synthesizer
    synthesizer.close()


# Kokoro's dictionaries (misaki) have the same words so, but for ᵻ, which they write ə, and secondary stress.
@pytest.mark.parametrize(
    ("text", "american", "british"),
    [
        ("better water", "bˈɛTəɹ wˈɔTəɹ", "bˈɛtə wˈɔːtə"),
        ("little bottle", "lˈɪTᵊl bˈɑTᵊl", "lˈɪtᵊl bˈɒtᵊl"),
        ("nurse, near, fire", "nˈɜɹs, nˈɪɹ, fˈIəɹ", "nˈɜːs, nˈɪə, fˈIə"),
        ("go home", "ɡˌO hˈOm", "ɡˌQ hˈQm"),
        ("city harmony", "sˈɪTi hˈɑɹməni", "sˈɪti hˈɑːməni"),
        ("piano", "piˈænO", "pɪˈanQ"),
        ("church judge boy", "ʧˈɜɹʧ ʤˈʌʤ bˈY", "ʧˈɜːʧ ʤˈʌʤ bˈY"),
        ("hair laughter", "hˈɛɹ lˈæftəɹ", "hˈɛː lˈɑːftə"),
        ("thirty three", "θˈɜɹTi θɹˈi", "θˈɜːti θɹˈiː"),
    ],
)
def test_words_are_written_in_the_models_alphabet(
    espeak: EspeakSynthesizer, text: str, american: str, british: str
) -> None:
    assert phonemes(text, AMERICAN, espeak.phonemes) == american
    assert phonemes(text, BRITISH, espeak.phonemes) == british


HETERONYMS = [
    # spelled alike, said differently: the first sentence's word is not the second's
    ("I read it yesterday.", "I read it every day.", "ɹˈɛd", "ɹˈid"),
    ("It has read it.", "I read books.", "ɹˈɛd", "ɹˈid"),
    ("A lead pipe falls.", "The lead singer falls.", "lˈɛd", "lˈid"),
    ("Wind the clock.", "The wind blows.", "wˈInd", "wˈɪnd"),
    ("They tear it up.", "There is a tear.", "tˈɛɹ", "tˈɪɹ"),
    ("Please close the door.", "It is close.", "klˈOz", "klˈOs"),
    ("In minute detail.", "In a minute.", "mˈInut", "mˈɪnɪt"),
    ("She takes a bow.", "A violin bow.", "bˈW", "bˈO"),
    ("Please use it.", "It has a use.", "jˈuz", "jˈus"),
    ("Separate them now.", "On separate tracks.", "ˌAt", "sˈɛpɹət"),
    ("To record a song.", "The record plays.", "kˈɔɹd", "ɹˈɛkəɹd"),
    ("A live concert.", "They live here.", "lˈIv", "lˈɪv"),
    ("To permit it.", "Get a permit.", "pəɹmˈɪt", "pˈɜɹmɪt"),
    ("To present it.", "In the present.", "pɹɪzˈɛnt", "pɹˈɛzənt"),
]


@pytest.mark.parametrize(("one", "other", "first", "second"), HETERONYMS)
def test_heteronyms_are_told_apart_by_their_neighbours(
    espeak: EspeakSynthesizer, one: str, other: str, first: str, second: str
) -> None:
    said = phonemes(one, AMERICAN, espeak.phonemes), phonemes(other, AMERICAN, espeak.phonemes)
    assert first in said[0]
    assert second in said[1]


def test_bass_in_music_is_not_pronounced_like_the_fish(espeak: EspeakSynthesizer) -> None:
    assert "bˈAs" in phonemes("a bass guitar", AMERICAN, espeak.phonemes)


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("Yes, it is: a dog!", ",:!"),
        ("At 10:30 it costs 3.14, or 1,000.", ",."),
        ("Dr. Smith, of the U.S. Army, left.", ",,."),
        ('He said "no" (twice) — and left...', '""()—...'),
        ("Is it?", "?"),
    ],
)
def test_marks_stay_and_those_inside_numbers_and_short_forms_do_not(
    espeak: EspeakSynthesizer, text: str, marks: str
) -> None:
    said = phonemes(text, AMERICAN, espeak.phonemes)
    assert "".join(character for character in said if character in ';:,.!?—…"()“”') == marks


@pytest.mark.parametrize(
    ("language", "text"), [("es", "hola"), ("fr", "bonjour"), ("it", "ciao"), ("hi", "ok")]
)
def test_other_languages_are_read_in_their_own_sounds(
    espeak: EspeakSynthesizer, language: str, text: str
) -> None:
    said = phonemes(text, language, espeak.phonemes)
    assert said
    assert not set(said) & set("^()")


def test_many_threads_get_the_phonemes_of_their_own_text(espeak: EspeakSynthesizer) -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    expected = {word: espeak.phonemes(word, AMERICAN) for word in words}
    found: dict[str, set[str]] = {word: set() for word in words}

    def ask(word: str) -> None:
        found[word].update(espeak.phonemes(word, AMERICAN) for _ in range(50))

    threads = [threading.Thread(target=ask, args=(word,)) for word in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {word: {expected[word]} for word in words}


def test_speech_after_phonemes_is_speech(espeak: EspeakSynthesizer) -> None:
    espeak.phonemes("odd", AMERICAN)
    assert sum(map(len, espeak.voice("en-us", 1.0).speak("odd"))) > 5000


def spoken(voices: KokoroSynthesizer, name: str, text: str, rate: float = 1.0) -> np.ndarray:
    voice = voices.voice(name, rate)
    return np.concatenate(list(voice.speak(voice.speakable(text))))


def test_the_same_text_twice_is_the_same_bytes_and_another_voice_is_not(voices: KokoroSynthesizer) -> None:
    once, again = (spoken(voices, "af_heart", "A dog barks.") for _ in range(2))
    assert once.tobytes() == again.tobytes()
    assert once.tobytes() != spoken(voices, "af_sky", "A dog barks.").tobytes()


def test_the_rate_changes_the_length(voices: KokoroSynthesizer) -> None:
    slow, normal, fast = (len(spoken(voices, "af_heart", "A dog barks.", rate)) for rate in (0.5, 1, 2))
    assert slow == pytest.approx(2 * normal, rel=0.05)
    assert normal == pytest.approx(2 * fast, rel=0.05)


def test_a_mix_is_the_weighted_mean_of_its_voices(voices: KokoroSynthesizer) -> None:
    heart, sky = voices.style("af_heart"), voices.style("af_sky")
    np.testing.assert_allclose(voices.style("af_heart:0.7+af_sky:0.3"), 0.7 * heart + 0.3 * sky, atol=1e-6)
    np.testing.assert_array_equal(voices.style("af_heart:2"), heart)


def test_the_style_is_the_row_of_the_number_of_phonemes(voices: KokoroSynthesizer) -> None:
    """As in kokoro-onnx: n phonemes use row n - 1."""
    given: list[dict] = []
    run_session = voices.graph._session

    class Recording:
        def run(self, outputs: None, inputs: dict, options: object) -> list[np.ndarray]:
            given.append(inputs)
            return run_session.run(outputs, inputs, options)

    graph = kokoro.KokoroGraph("tokens", Recording())  # type: ignore[arg-type]
    graph.waveform([5, 6, 7], voices.style("af_heart"), 1.25)
    np.testing.assert_array_equal(given[0]["tokens"], [[0, 5, 6, 7, 0]])
    np.testing.assert_array_equal(given[0]["style"], voices.style("af_heart")[2:3])
    assert given[0]["speed"] == np.float32(1.25)


@pytest.mark.parametrize("length", [0, 1, 510, 511, 1500])
def test_a_long_text_is_cut_at_spaces_into_runs_that_the_model_takes(length: int) -> None:
    ids = [9 if place % 7 == 6 else 1 for place in range(length)]
    found = list(parts(ids, space=9))
    assert [token for part in found for token in part] == ids
    assert all(0 < len(part) <= 510 for part in found)
    assert all(part[-1] == 9 for part in found[:-1])


def test_a_text_without_spaces_is_cut_all_the_same() -> None:
    assert [len(part) for part in parts([1] * 1100, space=9)] == [510, 510, 80]


def test_an_interrupted_voice_ends_without_an_error_before_the_segment_is_made(
    voices: KokoroSynthesizer,
) -> None:
    voice = voices.voice("af_heart", 1.0)
    voice.interrupt()
    assert list(voice.speak("A dog barks.")) == []


def test_a_run_in_the_making_is_given_up_when_its_voice_is_interrupted(voices: KokoroSynthesizer) -> None:
    """As ONNX Runtime does it: between two nodes it looks at `terminate` and raises."""
    running = threading.Event()

    class Endless:
        def run(self, outputs: None, inputs: dict, options: onnxruntime.RunOptions) -> list[np.ndarray]:
            running.set()
            deadline = time.monotonic() + 10
            while not options.terminate:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            raise RuntimeError("Exiting due to terminate flag being set to true.")

    synthesizer = KokoroSynthesizer(voices.settings, Endless(), voices._styles)  # type: ignore[arg-type]
    try:
        voice = synthesizer.voice("af_heart", 1.0)
        with ThreadPoolExecutor(1) as pool:
            spoken = pool.submit(lambda: list(voice.speak("A dog barks.")))
            assert running.wait(10)
            voice.interrupt()
            assert spoken.result(10) == []
    finally:
        synthesizer.close()


@pytest.mark.parametrize(
    ("flags", "precise"), [("avx2 avx512_vnni", False), ("avx2 avx_vnni", False), ("avx2 avx512bw", True)]
)
def test_the_slow_exact_products_are_asked_for_only_where_the_fast_ones_overflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, precise: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {flags} sse2\n")
    monkeypatch.setattr(kokoro, "CPU_INFO", tmp_path / "cpuinfo")
    options = kokoro.session_options(1)
    if precise:
        assert options.get_session_config_entry(kokoro.PRECISE) == "1"
    else:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry(kokoro.PRECISE)


def test_a_graph_that_fails_is_a_voice_that_failed(engines: Path, voices: KokoroSynthesizer) -> None:
    broken = KokoroSynthesizer(voices.settings, voices.graph._session, np.zeros((4, 510, 255), np.float32))
    try:
        with pytest.raises(VoiceFailed, match="the natural voice failed on a segment"):
            list(broken.voice("af_heart", 1.0).speak("A dog."))
    finally:
        broken.close()


def test_a_catalogue_has_all_voices_mixes_and_openais_names(engines: Path) -> None:
    catalogue = Catalogue.load(engines, threads=1)
    try:
        assert catalogue.voices == available_voices(engines)
        for name in (None, "af_sky", "af_heart:0.7+af_sky:0.3", "marin"):
            opened = catalogue.voice(name, 1.0)
            assert opened.sample_rate == 24000
            blocks = list(shape(opened.speak("A dog barks."), 24000, 0.0))
            assert blocks
            assert max(map(len, blocks)) <= 2400
        assert catalogue.voice("en-us", 1.0).sample_rate == 22050
    finally:
        catalogue.close()


def test_the_settings_are_read_where_the_locale_is_ascii(engines: Path) -> None:
    """As inside Triton, whose Python has no UTF-8 locale."""
    code = (
        "import sys; from pathlib import Path; from af3.speech.built_voice import available_voices;"
        "from af3.speech.engines.kokoro import KokoroSettings; engines = Path(sys.argv[1]);"
        "assert available_voices(engines)[0] == 'af_heart';"
        "assert 'ˈ' in KokoroSettings.read(engines / 'voice').vocabulary"
    )
    ascii_locale = {**os.environ, "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code.replace("ˈ", "\\u02c8"), str(engines)],
        env=ascii_locale,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_voices_of_an_engine_that_is_not_known_are_skipped_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "voice.json").write_text(json.dumps({"name": "new", "engine": "later"}))
    catalogue = Catalogue.load(tmp_path, threads=1)
    try:
        assert "of an engine that this server does not know" in caplog.text
        assert catalogue.voice(None, 1.0).sample_rate == 22050
        with pytest.raises(VoiceFailed, match="could not be loaded"):
            catalogue.voice("new", 1.0)
    finally:
        catalogue.close()
