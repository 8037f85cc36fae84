"""The real Kokoro-82M: equal to the reference implementation, understood, without clicks, interrupted at once."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from af3.speech.engines.espeak import EspeakSynthesizer
from af3.speech.engines.kokoro import SAMPLE_RATE, KokoroSynthesizer
from af3.speech.engines.kokoro_phonemes import AMERICAN, BRITISH
from af3.speech.pcm import shape
from af3.speech.segmenter import COMPUTED, INSTANT, Pace, Segmenter
from af3.speech.session import PAUSE_S
from af3.speech.voice import Voice
from build_engines.voice.kokoro_files import KokoroFiles
from tests.kokoro.sentences import sentences

BOUND = 1e-6  # largest difference of a sample from the reference's, full scale 1
VOICES = ("af_heart", "am_adam", "bf_emma", "bm_george", "af_bella")
HEARD = int(os.environ.get("SENTENCES", "200"))
CLIP_HZ = 16000


def test_fifty_sentences_are_the_reference_implementations_sample_for_sample(
    voices: KokoroSynthesizer,
    published: KokoroFiles,
    judge: Callable[[str, dict[str, Any]], str],
    tmp_path: Path,
) -> None:
    spoken = []
    for number, sentence in enumerate(sentences(50)):
        voice = VOICES[number % len(VOICES)]
        language = BRITISH if voice.startswith("b") else AMERICAN
        phonemes = voices.phonemes(sentence, language)
        spoken.append({"phonemes": phonemes, "voice": voice, "speed": (1.0, 1.0, 0.8, 1.25)[number % 4]})
    styles = published.styles()[:, :, None]  # as kokoro-onnx has them: [510, 1, 256] each
    np.savez(tmp_path / "styles.npz", **dict(zip(published.voices, styles, strict=True)))
    task = {
        "graph": str(published.graph),
        "vocabulary": dict(published.vocabulary),
        "styles": str(tmp_path / "styles.npz"),
        "spoken": spoken,
        "out": str(tmp_path / "reference.npz"),
    }
    judge("speak", task)
    reference = np.load(tmp_path / "reference.npz")
    worst, audio_s = 0.0, 0.0
    for number, one in enumerate(spoken):
        ids = voices.settings.token_ids(one["phonemes"])
        found = voices.graph.waveform(ids, voices.style(one["voice"]), one["speed"])
        expected = reference[str(number)]
        assert found.shape == expected.shape, one
        worst = max(worst, float(np.abs(found - expected).max()))
        audio_s += len(found) / SAMPLE_RATE
    print(f"{len(spoken)} sentences, {audio_s:.0f} s: largest difference {worst:.3g}")
    assert worst <= BOUND


def answer(voice: Voice, text: str, pace: Pace) -> tuple[np.ndarray, list[int]]:
    """An answer as a session speaks it, and the samples at which its segments begin."""
    segmenter = Segmenter(pace)
    pieces: list[np.ndarray] = []
    starts: list[int] = []
    pause_s = 0.0
    for segment in segmenter.push(text) + segmenter.flush():
        starts.append(sum(map(len, pieces)))
        pieces += shape(voice.speak(voice.speakable(segment.speech)), voice.sample_rate, pause_s)
        pause_s = PAUSE_S[segment.ending]
    return np.concatenate(pieces), starts


@pytest.fixture(scope="module")
def espeak() -> Iterator[EspeakSynthesizer]:
    synthesizer = EspeakSynthesizer(1)
    yield synthesizer
    synthesizer.close()


def word_errors(said: str, heard: str) -> int:
    """Insertions, deletions and substitutions."""
    wanted, found = (
        "".join(c for c in text.lower() if c.isalpha() or c == " ").split() for text in (said, heard)
    )
    row = list(range(len(found) + 1))
    for number, word in enumerate(wanted, start=1):
        above, row = row, [number]
        for place, other in enumerate(found, start=1):
            row.append(min(row[-1] + 1, above[place] + 1, above[place - 1] + (word != other)))
    return row[-1]


def test_a_recogniser_understands_it_at_least_as_well_as_the_offline_voice(
    voices: KokoroSynthesizer,
    espeak: EspeakSynthesizer,
    judge: Callable[[str, dict[str, Any]], str],
    tmp_path: Path,
) -> None:
    said = sentences(HEARD)
    rates = {}
    speakers: dict[str, tuple[Voice, Pace]] = {
        "af_heart": (voices.voice("af_heart", 1.0), COMPUTED),
        "en-us": (espeak.voice("en-us", 1.0), INSTANT),
    }
    for name, (voice, pace) in speakers.items():
        clips = []
        for number, sentence in enumerate(said):
            pcm, _ = answer(voice, sentence, pace)
            padded = np.pad(pcm, voice.sample_rate // 4)
            heard_at = soxr.resample(padded, voice.sample_rate, CLIP_HZ)
            clips.append(tmp_path / f"{name}-{number}.raw")
            clips[-1].write_bytes(heard_at.astype(np.int16).tobytes())
        heard = json.loads(judge("listen", {"clips": [str(clip) for clip in clips]}))
        errors = sum(map(word_errors, said, heard))
        rates[name] = errors / sum(len(sentence.split()) for sentence in said)
        print(f"{name}: word error rate {rates[name]:.3f} on {len(said)} sentences")
    assert rates["af_heart"] <= rates["en-us"]


ANSWER = (
    "I can hear a siren and a dog that barks twice. Then a car drives away slowly, and it is quiet again. "
    "After eleven seconds a woman says that the music was too loud, but nobody answers."
)


@pytest.fixture(scope="module", params=VOICES[:3])
def spoken(request: pytest.FixtureRequest, voices: KokoroSynthesizer) -> tuple[np.ndarray, list[int]]:
    return answer(voices.voice(request.param, 1.0), ANSWER, COMPUTED)


def test_the_same_text_twice_is_the_same_bytes(voices: KokoroSynthesizer) -> None:
    once, again = (answer(voices.voice("af_heart", 1.0), "A dog barks twice.", COMPUTED)[0] for _ in range(2))
    assert once.tobytes() == again.tobytes()


def test_no_join_clicks(spoken: tuple[np.ndarray, list[int]]) -> None:
    """A click is a burst above 6 kHz in a millisecond or two: none at a join is louder than the speech has its own."""
    pcm, starts = spoken
    assert len(starts) >= 4
    frame = 48
    cut = np.fft.rfftfreq(frame, 1 / SAMPLE_RATE) > 6000
    frames = np.lib.stride_tricks.sliding_window_view(pcm.astype(np.float64), frame)[:: frame // 2]
    high = np.square(np.abs(np.fft.rfft(frames * np.hanning(frame), axis=1)[:, cut])).sum(axis=1)
    usual = np.percentile(high, 90)
    near = 2 * SAMPLE_RATE // 1000
    for start in starts[1:]:
        places = slice(max(0, start - near) // (frame // 2), (start + near) // (frame // 2))
        assert high[places].max() <= usual, start


def test_level_and_silence_keep_to_the_rules(spoken: tuple[np.ndarray, list[int]]) -> None:
    pcm, _ = spoken
    frames = pcm[: len(pcm) // 240 * 240].reshape(-1, 240).astype(np.float64)
    rms = np.sqrt(np.square(frames).mean(axis=1))
    loud = rms[rms > rms.max() / 20]
    assert -23 <= 20 * np.log10(np.sqrt(np.square(loud).mean()) / 32768) <= -19
    assert np.abs(pcm).max() <= 32768 * 10 ** (-1 / 20) + 1
    quiet = rms < 32768 * 10 ** (-46 / 20)
    runs = np.diff(np.flatnonzero(np.concatenate([[True], ~quiet, [True]]))) - 1
    assert runs.max() * 0.01 <= 0.04 + 0.15 + 0.18  # ends kept, a pause, and a silence inside


def test_a_segment_in_the_making_is_given_up_within_100_ms(voices: KokoroSynthesizer) -> None:
    voice = voices.voice("af_heart", 1.0)
    ended: list[float] = []
    text = "After eleven seconds a woman says that the music was too loud, but nobody answers her. " * 2
    thread = threading.Thread(target=lambda: (list(voice.speak(text)), ended.append(time.monotonic())))
    thread.start()
    time.sleep(0.3)  # in the middle of a run that takes seconds
    stopped = time.monotonic()
    voice.interrupt()
    thread.join(30)
    assert ended
    assert ended[0] - stopped <= 0.1
