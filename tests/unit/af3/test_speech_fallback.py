"""Voices that compute: short first segments, an instant voice where they cannot keep up, an end at once."""

import threading
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import pytest

from af3.speech import keep_up
from af3.speech.keep_up import KeepUp, Resampled
from af3.speech.meter import Playback, SegmentReport
from af3.speech.segmenter import COMPUTED, INSTANT, Segmenter
from af3.speech.session import Speech
from af3.speech.speech_outputs import SpeechBlock
from af3.speech.voice import Pcm
from tests.unit.af3.test_speech_session import BLOCK, HZ, TIMEOUT_S, Counts, Sink, ToneVoice, sources, speak

ANSWER = (
    "I can hear a siren and a dog that barks twice. Then a car drives away slowly, and it is quiet again."
)


class ComputedVoice(ToneVoice):
    pace = COMPUTED


class InstantVoice(ToneVoice):
    sample_rate = HZ // 2

    def speak(self, text: str) -> Generator[Pcm, None, None]:
        self._engine.instant.append(text)
        yield np.full(BLOCK * 5, -3000, np.int16)


@dataclass
class Engine:
    voices: tuple[str, ...] = ("1", "2")
    spoken: list[str] = field(default_factory=list)
    instant: list[str] = field(default_factory=list)
    opened: list[ToneVoice] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    closed: int = 0

    def voice(self, name: str | None, rate: float) -> ToneVoice:
        kind = InstantVoice if name == "2" else ComputedVoice
        self.opened.append(kind(self, name or "1"))
        return self.opened[-1]

    def close(self) -> None:
        self.gate.set()


@pytest.fixture
def engine() -> Engine:
    engine = Engine()
    engine.gate.set()
    return engine


def speech_of(engine: Engine, counts: Counts, late_s: list[float], fallback: str | None = "2") -> Speech:
    """A server whose segments would come `late_s` too late, one after the other."""
    speech = Speech(engine, 1, 60, counts, fallback=fallback)
    late = iter(late_s)
    speech._keep_up.late_s = lambda *_: next(late, 0.0)  # type: ignore[method-assign]
    return speech


def test_a_voice_that_computes_begins_with_three_to_five_words(engine: Engine) -> None:
    log = speak(speech_of(engine, Counts(), []), "a", [ANSWER])
    assert sources(log)[0] == "I can hear a siren "
    assert 3 <= len(engine.spoken[0].split()) <= 5
    assert "".join(sources(log)) == ANSWER


def test_an_answer_that_would_come_late_goes_on_with_the_instant_voice_from_the_next_segment(
    engine: Engine,
) -> None:
    counts = Counts()
    log = speak(speech_of(engine, counts, [0.0, keep_up.PATIENCE_S + 0.1]), "a", [ANSWER])
    assert engine.spoken == ["I can hear a siren"]
    assert len(engine.instant) >= 2
    assert "".join(sources(log)) == ANSWER
    assert counts.fallbacks == 1
    assert {block.sample_rate for block in log if isinstance(block, SpeechBlock)} == {HZ}


def test_a_short_silence_is_no_reason_for_another_voice(engine: Engine) -> None:
    counts = Counts()
    speak(speech_of(engine, counts, [keep_up.PATIENCE_S] * 9), "a", [ANSWER])
    assert (engine.instant, counts.fallbacks) == ([], 0)


def test_without_the_option_an_answer_keeps_its_voice(engine: Engine) -> None:
    counts = Counts()
    speak(speech_of(engine, counts, [99.0] * 9, fallback=None), "a", [ANSWER])
    assert (engine.instant, counts.fallbacks) == ([], 0)


def test_the_next_answer_begins_with_its_own_voice_again(engine: Engine) -> None:
    counts = Counts()
    speech = speech_of(engine, counts, [99.0, *[0.0] * 99])
    speak(speech, "a", [ANSWER])
    speak(speech, "b", [ANSWER])
    assert counts.fallbacks == 1
    assert engine.spoken[0] == "I can hear a siren"


def test_an_answer_that_is_stopped_interrupts_its_voice(engine: Engine) -> None:
    engine.gate.clear()
    speech = speech_of(engine, Counts(), [])
    sink = Sink([])
    speech.begin("a", None, 1.0, Sink([]))
    speech.feed("a", ANSWER, True, sink)
    speech.stop("a")
    engine.gate.set()
    assert engine.opened[0].interrupted
    assert sink.done.wait(TIMEOUT_S)


def test_how_late_a_segment_would_be_follows_from_what_the_last_ones_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keep_up.time, "monotonic", lambda: 100.0)
    pace, playback = KeepUp(), Playback(played_until_s=102.0)
    assert pace.late_s(playback, 99.0, 150) == -2.0  # nothing is known yet
    pace.learn(SegmentReport(True, 0.1, 0.0, compute_s=1.0, audio_s=2.0, underrun=False))
    assert pace.late_s(playback, 99.0, 150) == pytest.approx(5.0 - 2.0)  # ten seconds of speech at 0.5
    assert pace.late_s(Playback(), 98.5, 15) == pytest.approx(1.5 + 0.5)  # the first one: since its text
    late_text = Playback(played_until_s=90.0)
    assert pace.late_s(late_text, 99.9, 15) == pytest.approx(0.1 + 0.5)  # the text was late, not the voice


@pytest.mark.parametrize(("given", "wanted"), [(22050, 24000), (24000, 24000), (16000, 24000)])
def test_another_voices_speech_keeps_its_length_and_pitch_at_the_answers_sample_rate(
    given: int, wanted: int
) -> None:
    class Tone:
        sample_rate, pace = given, INSTANT

        def speak(self, text: str) -> Generator[Pcm, None, None]:
            wave = 9000 * np.sin(2 * np.pi * 440 * np.arange(given) / given)
            yield from np.array_split(wave.astype(np.int16), 10)

    heard = np.concatenate(list(Resampled(Tone(), wanted).speak("")))
    assert abs(len(heard) - wanted) <= 2
    spectrum = np.abs(np.fft.rfft(heard[:wanted]))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert 8500 < np.abs(heard).max() < 9500


@pytest.mark.parametrize(
    "text",
    [
        "The speaker says three seven one and then leaves.",
        "I can hear a dog, which barks at a car.",
        "There is a trumpet in the recording and also a violin.",
    ],
)
def test_no_short_segment_ends_in_a_word_that_leans_on_the_next(text: str) -> None:
    segmenter = Segmenter(COMPUTED)
    found = [segment.speech for segment in segmenter.push(text) + segmenter.flush()]
    assert len(found) > 1
    assert not {speech.split()[-1] for speech in found} & {"a", "the", "and", "in", "is", "that"}
