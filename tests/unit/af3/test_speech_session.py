"""Segments of many answers at once, in order, with stand-in voices.

Long because the cases share those voices.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest

from af3.speech.meter import SegmentReport
from af3.speech.segmenter import INSTANT, Pace
from af3.speech.session import Speech
from af3.speech.speech_outputs import SpeechBlock
from af3.speech.voice import Pcm, VoiceFailed

HZ = 1000
BLOCK = HZ // 10
TIMEOUT_S = 10


class ToneVoice:
    """Each word of a segment is one second whose level tells the request: the synthesizer's `levels`."""

    sample_rate = HZ
    pace: Pace = INSTANT

    def __init__(self, engine: "ToneSynthesizer", name: str):
        self._engine = engine
        self.interrupted = False
        self._level = int(name)

    def speakable(self, text: str) -> str:
        return "".join(character for character in text if character.isascii())

    def speak(self, text: str) -> Generator[Pcm, None, None]:
        self._engine.spoken.append(text)
        try:
            for word in text.split():
                self._engine.gate.wait(TIMEOUT_S)
                if "boom" in word:
                    raise VoiceFailed("the tone broke")
                if "bug" in word:
                    raise ZeroDivisionError
                for _ in range(10):
                    yield np.full(BLOCK, 3000, np.int16)
        finally:
            self._engine.closed += 1

    def interrupt(self) -> None:
        self.interrupted = True


@dataclass
class ToneSynthesizer:
    voices: tuple[str, ...] = ("1",)
    spoken: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    closed: int = 0

    def voice(self, name: str | None, rate: float) -> ToneVoice:
        if name == "gone":
            raise VoiceFailed("voice 'gone' could not be loaded")
        return ToneVoice(self, name or "1")

    def close(self) -> None:
        self.gate.set()


@dataclass
class Sink:
    """One response: what left through it, in one list with those of the whole request."""

    log: list[SpeechBlock | str]
    done: threading.Event = field(default_factory=threading.Event)
    gone: bool = False
    after_block: Callable[[], None] = lambda: None

    def cancelled(self) -> bool:
        return self.gone

    def send(self, block: SpeechBlock) -> None:
        assert not self.done.is_set()
        self.log.append(block)
        self.after_block()

    def fail(self, message: str) -> None:
        assert not self.done.is_set()
        self.log.append(message)

    def finish(self) -> None:
        assert not self.done.is_set()
        self.done.set()


@dataclass
class Counts:
    """The observer of a test."""

    reports: list[SegmentReport] = field(default_factory=list)
    failures: int = 0
    fallbacks: int = 0
    now_live: int = 0

    def segment(self, report: SegmentReport) -> None:
        self.reports.append(report)

    def failed(self) -> None:
        self.failures += 1

    def fell_back(self) -> None:
        self.fallbacks += 1

    def live(self, count: int) -> None:
        self.now_live = count


def speech_of(
    voices: "ToneSynthesizer | CodecSynthesizer",
    threads: int = 1,
    idle_s: float = 60,
    counts: Counts | None = None,
) -> Speech:
    return Speech(voices, threads, idle_s, counts or Counts())


@pytest.fixture
def engine() -> ToneSynthesizer:
    engine = ToneSynthesizer()
    engine.gate.set()
    return engine


def speak(
    speech: Speech, request_id: str, deltas: Iterable[str], log: list[SpeechBlock | str] | None = None
) -> list[SpeechBlock | str]:
    """Feed an answer and wait until all its sinks are finished."""
    log = [] if log is None else log
    speech.begin(request_id, None, 1.0, Sink([]))
    deltas = list(deltas)
    sinks = [Sink(log) for _ in deltas]
    for place, (delta, sink) in enumerate(zip(deltas, sinks, strict=True)):
        speech.feed(request_id, delta, place == len(deltas) - 1, sink)
    assert all(sink.done.wait(TIMEOUT_S) for sink in sinks)
    return log


def sources(log: Iterable[SpeechBlock | str]) -> list[str]:
    return [block.source for block in log if isinstance(block, SpeechBlock) and block.source]


def test_the_speech_of_an_answer_comes_in_order_and_names_the_text_it_speaks(engine: ToneSynthesizer) -> None:
    speech = speech_of(engine, threads=4)
    answer = "There is a dog. A second sentence of words. A third one, which is as long as those before it. The last."
    log = speak(speech, "a", [answer[place : place + 5] for place in range(0, len(answer), 5)])
    assert "".join(sources(log)) == answer
    assert len(sources(log)) == 4
    assert speech.live == 0


def test_what_the_voice_cannot_pronounce_is_skipped_and_its_text_stays_with_the_next_segment(
    engine: ToneSynthesizer,
) -> None:
    speech = speech_of(engine)
    log = speak(speech, "a", ["你好你好你好你好你好你好你好你好你好你好。\n", "Then there are words."])
    assert engine.spoken == ["Then there are words."]
    assert "".join(sources(log)).endswith("Then there are words.")
    assert "".join(sources(log)).startswith("你好")


@pytest.mark.parametrize("answer", ["***", "", "你好。", "😀"])
def test_an_answer_that_cannot_be_spoken_has_no_speech_and_no_error(
    engine: ToneSynthesizer, answer: str
) -> None:
    speech = speech_of(engine)
    assert speak(speech, "a", [answer]) == []
    assert speech.live == 0


def test_a_failing_voice_says_so_once_and_every_response_is_still_finished(engine: ToneSynthesizer) -> None:
    speech = speech_of(engine, threads=2)
    log = speak(
        speech, "a", ["This is fine.\n", "This goes boom now, loudly.\n", "And a third one.\n", "End."]
    )
    assert [entry for entry in log if isinstance(entry, str)] == ["the tone broke"]
    assert "".join(sources(log)).startswith("This is fine.")
    assert "third" not in "".join(engine.spoken)
    assert speech.live == 0


def test_a_failure_is_counted_once(engine: ToneSynthesizer) -> None:
    counts = Counts()
    speech = speech_of(engine, threads=2, counts=counts)
    speak(speech, "a", ["This goes boom.\n", "And this boom too.\n", "End."])
    assert counts.failures == 1
    assert counts.now_live == 0


def test_a_voice_that_could_not_be_loaded_is_said_once_and_every_response_is_finished(
    engine: ToneSynthesizer,
) -> None:
    counts = Counts()
    speech = speech_of(engine, counts=counts)
    log: list[SpeechBlock | str] = []
    sinks = [Sink(log), Sink(log)]
    speech.begin("a", "gone", 1.0, sinks[0])
    for sink, last in zip(sinks, (False, True), strict=True):
        speech.feed("a", "Some text.\n", last, sink)
    assert log == ["voice 'gone' could not be loaded"]
    assert all(sink.done.is_set() for sink in sinks)
    assert counts.failures == 1


def test_an_error_of_ours_in_a_voice_is_told_without_its_details(engine: ToneSynthesizer) -> None:
    speech = speech_of(engine)
    assert speak(speech, "a", ["bug"]) == ["internal error while speaking"]
    assert sources(speak(speech, "b", ["Another request is fine."])) == ["Another request is fine."]


def test_a_voice_that_fails_for_one_request_goes_on_for_the_others(engine: ToneSynthesizer) -> None:
    speech = speech_of(engine)
    assert speak(speech, "a", ["boom"]) == ["the tone broke"]
    assert sources(speak(speech, "b", ["This is fine."])) == ["This is fine."]


def test_a_cancelled_request_is_silent_within_one_block_and_its_voice_is_stopped(
    engine: ToneSynthesizer,
) -> None:
    speech = speech_of(engine)
    log: list[SpeechBlock | str] = []
    first, second = Sink(log), Sink(log, gone=True)

    def leave() -> None:
        if len(log) == 3:
            speech.feed("a", " more", False, second)

    first.after_block = leave
    speech.begin("a", None, 1.0, Sink([]))
    speech.feed("a", "Ten words that would take the voice ten whole seconds\n", False, first)
    assert first.done.wait(TIMEOUT_S)
    assert second.done.wait(TIMEOUT_S)
    assert len(log) == 3
    assert engine.closed == 1
    assert speech.live == 0


def test_speech_can_be_stopped_after_the_whole_text_has_come(engine: ToneSynthesizer) -> None:
    speech = speech_of(engine)
    log: list[SpeechBlock | str] = []
    sink = Sink(log)
    sink.after_block = lambda: speech.stop("a") if len(log) == 2 else None
    speech.begin("a", None, 1.0, Sink([]))
    speech.feed("a", "Ten words that would take the voice ten whole seconds", True, sink)
    assert sink.done.wait(TIMEOUT_S)
    assert len(log) == 2
    assert speech.live == 0


def test_the_speech_of_many_requests_never_mixes(engine: ToneSynthesizer) -> None:
    speech = speech_of(engine, threads=4)
    answers = {
        f"r{number}": [f"Request {number} sentence {place} with some more words.\n" for place in range(5)]
        for number in range(16)
    }
    logs: dict[str, list[SpeechBlock | str]] = {request_id: [] for request_id in answers}
    threads = [
        threading.Thread(target=speak, args=(speech, request_id, deltas, logs[request_id]))
        for request_id, deltas in answers.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert {request_id: "".join(sources(log)) for request_id, log in logs.items()} == {
        request_id: "".join(deltas).rstrip() for request_id, deltas in answers.items()
    }


def test_requests_take_turns_segment_by_segment(engine: ToneSynthesizer) -> None:
    engine.gate.clear()
    speech = speech_of(engine)
    log: list[SpeechBlock | str] = []
    sinks = [Sink(log) for _ in range(6)]
    for name in "ab":
        speech.begin(name, None, 1.0, Sink([]))
    for place in range(3):
        for offset, name in enumerate("ab"):
            speech.feed(
                name,
                f"Sentence {place} of {name} which is long enough.\n",
                place == 2,
                sinks[2 * place + offset],
            )
    engine.gate.set()
    assert all(sink.done.wait(TIMEOUT_S) for sink in sinks)
    assert [text.split()[3] for text in engine.spoken] == ["a", "b", "a", "b", "a", "b"]


def test_whoever_would_run_dry_first_is_served_first(engine: ToneSynthesizer) -> None:
    engine.gate.clear()
    speech = speech_of(engine)
    sinks = [Sink([]) for _ in range(5)]
    for name in "abc":
        speech.begin(name, None, 1.0, Sink([]))
    long, short = "One two three four five six seven eight nine ten of a.\n", "Two of b.\n"
    speech.feed("a", long, False, sinks[0])
    speech.feed("b", short, False, sinks[1])
    speech.feed("a", "Then the next sentence of a, as long.", True, sinks[2])
    speech.feed("b", "Then the next sentence of b, as long.", True, sinks[3])
    speech.feed("c", "First of c.", True, sinks[4])
    engine.gate.set()
    assert all(sink.done.wait(TIMEOUT_S) for sink in sinks)
    assert [text.rstrip(".").split(" of ")[1][0] for text in engine.spoken] == ["a", "b", "c", "b", "a"]


def test_a_request_whose_text_breaks_off_is_forgotten(engine: ToneSynthesizer) -> None:
    speech = speech_of(engine, idle_s=0.01)
    speech.begin("a", None, 1.0, Sink([]))
    deadline = time.monotonic() + TIMEOUT_S
    while speech.live != 1 or "a" in speech._sessions:
        speech.begin("b", None, 1.0, Sink([]))
        assert time.monotonic() < deadline
    log: list[SpeechBlock | str] = []
    sink = Sink(log)
    speech.feed("a", "Too late.", True, sink)
    assert sink.done.is_set()
    assert log == []


def test_a_new_request_with_the_id_of_a_broken_one_begins_anew(engine: ToneSynthesizer) -> None:
    speech = speech_of(engine)
    speech.begin("a", None, 1.0, Sink([]))
    speech.feed("a", "Left over ", False, Sink([]))
    assert sources(speak(speech, "a", ["New words."])) == ["New words."]


def test_each_segment_is_measured(engine: ToneSynthesizer) -> None:
    counts = Counts()
    reports = counts.reports
    speech = speech_of(engine, counts=counts)
    log = speak(speech, "a", ["One two.\n", "Three four five six.\n"])
    assert [report.first_of_request for report in reports] == [True, False]
    heard_s = sum(len(block.pcm) for block in log if isinstance(block, SpeechBlock)) / HZ
    assert sum(report.audio_s for report in reports) == pytest.approx(heard_s)
    assert not any(report.underrun for report in reports)
    assert all(0 <= report.latency_s <= report.compute_s + TIMEOUT_S for report in reports)


def test_a_block_that_comes_after_the_speech_before_it_was_heard_is_an_underrun() -> None:
    class Late(ToneSynthesizer):
        def voice(self, name: str | None, rate: float) -> ToneVoice:
            return LateVoice(self, name or "1")

    class LateVoice(ToneVoice):
        def speak(self, text: str) -> Generator[Pcm, None, None]:
            for piece in super().speak(text):
                time.sleep(0.11)  # 110 ms of work for every 100 ms of speech
                yield piece

    counts = Counts()
    speak(speech_of(Late(gate=_open_gate()), counts=counts), "a", ["One."])
    assert [report.underrun for report in counts.reports] == [True]
    assert counts.reports[0].longest_gap_s >= 0.11


class CodecVoice:
    """A token-LM + codec voice in small: each token depends on all before it, each is one frame of 40 ms."""

    sample_rate = HZ
    pace = INSTANT

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.decoding = False

    def speakable(self, text: str) -> str:
        return text

    def speak(self, text: str) -> Generator[Pcm, None, None]:
        self.decoding = True
        try:
            for character in text:
                self.tokens.append((ord(character) + sum(self.tokens)) % 251)
                yield np.full(HZ // 25, 1000 + self.tokens[-1], np.int16)
        finally:
            self.decoding = False

    def interrupt(self) -> None:
        """A token takes no time."""


@dataclass
class CodecSynthesizer:
    voices: tuple[str, ...] = ("codec",)
    opened: list[CodecVoice] = field(default_factory=list)

    def voice(self, name: str | None, rate: float) -> CodecVoice:
        self.opened.append(CodecVoice())
        return self.opened[-1]

    def close(self) -> None:
        """Nothing to free."""


def test_a_voice_of_audio_tokens_conditions_on_what_it_has_said_and_begins_anew_with_each_answer() -> None:
    engine = CodecSynthesizer()
    speech = speech_of(engine, threads=2)
    answer = ["First line.\n", "Second line that is long enough.\n", "Third."]
    assert "".join(sources(speak(speech, "a", answer))) == "".join(answer)
    speak(speech, "b", answer)
    alone = CodecVoice()
    for text in ("First line.", "Second line that is long enough.", "Third."):
        assert list(alone.speak(text))
    assert [voice.tokens for voice in engine.opened] == [alone.tokens, alone.tokens]


def test_a_voice_of_audio_tokens_stops_decoding_when_its_listener_has_left() -> None:
    engine = CodecSynthesizer()
    speech = speech_of(engine)
    log: list[SpeechBlock | str] = []
    sink = Sink(log)
    sink.after_block = lambda: speech.stop("a")
    speech.begin("a", None, 1.0, Sink([]))
    speech.feed("a", "x" * 390, True, sink)
    assert sink.done.wait(TIMEOUT_S)
    assert len(log) == 1
    assert len(engine.opened[0].tokens) < 30
    assert not engine.opened[0].decoding


def _open_gate() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate
