"""What the real offline voice sounds like, in figures: level, silence, length, joins."""

import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from af3.speech.engines.espeak import SAMPLE_RATE, VOICES, EspeakSynthesizer
from af3.speech.pcm import shape
from af3.speech.segmenter import Segmenter
from af3.speech.session import PAUSE_S
from af3.speech.voice import Voice, VoiceFailed

SENTENCES = [
    "Yes.",
    "six",
    "The answer is forty two, and the reason is simple.",
    "Well, I can hear a dog barking in the distance, followed by a car door closing; then, quiet.",
    "one two three four",
    "It costs 123.45 dollars!",
    "Is it a question?",
    "She sees sixty six ships.",
]
ANSWER = (
    "The recording has a dog barking, followed by a car door that closes. After that a woman says, slowly, that "
    "she is late. Music begins to play, first a piano and then strings; it fades out at the end."
)


@pytest.fixture(scope="module")
def espeak() -> Iterator[EspeakSynthesizer]:
    synthesizer = EspeakSynthesizer(processes=2)
    yield synthesizer
    synthesizer.close()


def said(voice: Voice, text: str, pause_s: float = 0.0) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int16), *shape(voice.speak(text), voice.sample_rate, pause_s)])


def loudness(pcm: np.ndarray) -> np.ndarray:
    """RMS of every 10 ms, full scale is 1."""
    length = SAMPLE_RATE // 100
    frames = pcm[: len(pcm) // length * length].reshape(-1, length) / 32768.0
    return np.sqrt(np.mean(np.square(frames), axis=1))


def level_db(pcm: np.ndarray) -> float:
    heard = loudness(pcm)
    return float(10 * np.log10(np.mean(np.square(heard[heard > heard.max() / 20]))))


def longest_silence_s(pcm: np.ndarray) -> float:
    sounding = np.flatnonzero(loudness(pcm) > 10 ** (-50 / 20))
    return float(np.diff(sounding, prepend=-1, append=len(loudness(pcm))).max() - 1) / 100


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", VOICES)
def test_segments_have_one_level_no_clipping_and_no_long_silence(
    espeak: EspeakSynthesizer, name: str, rate: float
) -> None:
    spoken = [said(espeak.voice(name, rate), text) for text in SENTENCES]
    levels = [level_db(pcm) for pcm in spoken]
    assert max(levels) - min(levels) < 3
    assert max(np.abs(pcm.astype(int)).max() for pcm in spoken) < 32767 * 0.9
    assert max(map(longest_silence_s, spoken)) < 0.25


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", VOICES)
def test_an_answer_in_segments_is_as_long_as_in_one_piece_and_nowhere_silent_for_long(
    espeak: EspeakSynthesizer, name: str, rate: float
) -> None:
    voice = espeak.voice(name, rate)
    segmenter = Segmenter()
    segments = segmenter.push(ANSWER) + segmenter.flush()
    assert len(segments) >= 4
    pauses = [0.0, *(PAUSE_S[segment.ending] for segment in segments[:-1])]
    pieces = [said(voice, segment.speech, pause) for segment, pause in zip(segments, pauses, strict=True)]
    whole = said(voice, ANSWER)
    assert sum(map(len, pieces)) == pytest.approx(len(whole), rel=0.15)
    assert longest_silence_s(np.concatenate(pieces)) < 0.25


def test_the_joins_of_segments_do_not_click(espeak: EspeakSynthesizer) -> None:
    voice = espeak.voice("en-us", 1.0)
    for text in SENTENCES:
        pcm = said(voice, text).astype(int)
        assert abs(pcm[0]) < 20
        assert abs(pcm[-1]) < 20


def test_blocks_are_at_most_100_ms(espeak: EspeakSynthesizer) -> None:
    voice = espeak.voice("en-us", 1.0)
    assert max(map(len, shape(voice.speak(ANSWER), SAMPLE_RATE, 0.0))) <= SAMPLE_RATE // 10


def test_no_block_begins_with_a_step_of_the_level() -> None:
    """A steady tone that doubles in the middle: the gain may follow, but not by a jump between two samples."""
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    tone = 3000 * np.sin(2 * np.pi * 200 * time) * np.where(time < 1, 1, 2)
    blocks = list(shape([tone.astype(np.int16)], SAMPLE_RATE, 0.0))
    steps = [abs(int(after[0]) - int(before[-1])) for before, after in pairwise(blocks)]
    assert max(steps) < 1.5 * max(int(np.abs(np.diff(block.astype(int))).max()) for block in blocks)


def test_a_peak_after_quiet_speech_does_not_clip() -> None:
    quiet, loud = np.full(SAMPLE_RATE, 300.0), np.full(SAMPLE_RATE, 30000.0)
    carrier = np.sin(2 * np.pi * 300 * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)
    pcm = (np.concatenate([quiet, loud]) * carrier).astype(np.int16)
    shaped = np.concatenate(list(shape([pcm], SAMPLE_RATE, 0.0)))
    assert np.abs(shaped.astype(int)).max() < 32767 * 0.9


def test_silence_gives_nothing_to_play() -> None:
    assert list(shape([np.zeros(SAMPLE_RATE, np.int16)], SAMPLE_RATE, 0.1)) == []


def test_the_shape_does_not_depend_on_the_blocks_of_the_voice(espeak: EspeakSynthesizer) -> None:
    raw = np.concatenate(list(espeak.voice("en-us", 1.0).speak(ANSWER)))
    whole = np.concatenate(list(shape([raw], SAMPLE_RATE, 0.0)))
    pieces = np.concatenate(list(shape(np.array_split(raw, 997), SAMPLE_RATE, 0.0)))
    assert np.array_equal(whole, pieces)


def test_the_rate_makes_speech_faster(espeak: EspeakSynthesizer) -> None:
    slow, normal, fast = (len(said(espeak.voice("en-us", rate), ANSWER)) for rate in (0.5, 1.0, 2.0))
    assert slow > 1.5 * normal > 2.2 * fast


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("你好", ""),
        ("The word 你好 means hello.", "The word  means hello."),
        ("Привет", ""),
        ("Café 20°", "Café 20 degrees"),
    ],
)
def test_letters_of_other_scripts_are_not_spelled_out(
    espeak: EspeakSynthesizer, text: str, read: str
) -> None:
    assert espeak.voice("en-us", 1.0).speakable(text) == read


def test_a_caller_that_hangs_up_leaves_the_process_ready_for_the_next_text() -> None:
    espeak = EspeakSynthesizer(processes=1)
    voice = espeak.voice("en-us", 1.0)
    alone = sum(map(len, voice.speak("six")))
    for blocks in (0, 1, 3):
        speech = voice.speak(ANSWER)
        for _ in range(blocks):
            next(speech)
        speech.close()
        assert sum(map(len, voice.speak("six"))) == pytest.approx(alone, rel=0.02)
    espeak.close()


def test_a_process_that_died_is_replaced() -> None:
    espeak = EspeakSynthesizer(processes=1)
    voice = espeak.voice("en-us", 1.0)
    _kill(espeak)
    assert list(voice.speak("six"))
    espeak.close()


@pytest.mark.parametrize("blocks", [1, 4])
def test_a_process_that_dies_while_it_speaks_is_replaced_and_goes_on_where_it_broke_off(blocks: int) -> None:
    espeak = EspeakSynthesizer(processes=1)
    whole = np.concatenate(list(espeak.voice("en-us", 1.0).speak(ANSWER)))
    espeak.close()
    espeak = EspeakSynthesizer(processes=1)
    speech = espeak.voice("en-us", 1.0).speak(ANSWER)
    heard = [next(speech) for _ in range(blocks)]
    _kill(espeak)
    np.testing.assert_array_equal(np.concatenate([*heard, *speech]), whole)
    espeak.close()


def test_a_text_of_which_two_processes_die_fails_that_segment_alone() -> None:
    espeak = EspeakSynthesizer(processes=1)
    voice = espeak.voice("en-us", 1.0)
    speech = voice.speak(ANSWER)
    with pytest.raises(VoiceFailed, match="broke off"):
        while True:
            next(speech)
            _kill(espeak)
    assert list(voice.speak("six"))
    espeak.close()


def test_closing_leaves_no_process() -> None:
    espeak = EspeakSynthesizer(processes=2)
    processes = [worker._process for worker in espeak._workers]
    espeak.close()
    assert all(process.poll() is not None for process in processes)


def _kill(espeak: EspeakSynthesizer) -> None:
    process: subprocess.Popen[bytes] = espeak._workers[0]._process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
