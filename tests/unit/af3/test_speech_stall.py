"""Text that does not go on is spoken as far as it is there; time is moved by hand."""

import threading
from collections.abc import Iterator

import pytest

from af3.pace import LONGEST_WAIT_S
from af3.speech.segmenter import Segmenter
from af3.speech.session import STALL_S, Speech, SpeechBlock
from af3.stall import Clock, StallWatch
from tests.unit.af3.test_speech_session import TIMEOUT_S, Counts, Sink, ToneSynthesizer, sources


class HandClock(Clock):
    """Stands still until it is moved; then whoever waits looks at it again."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self._waits = threading.Event()
        self._changed = threading.Condition()

    def now(self) -> float:
        return self.time_s

    def wait(self, changed: threading.Condition, until: float | None) -> None:
        self._changed = changed
        self._waits.set()
        changed.wait(TIMEOUT_S)

    def advance(self, seconds: float) -> None:
        assert self._waits.wait(TIMEOUT_S)
        with self._changed:
            self._waits.clear()
            self.time_s += seconds
            self._changed.notify_all()

    def settle(self) -> None:
        """Until whoever waits has done all that is due."""
        assert self._waits.wait(TIMEOUT_S)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def speech(clock: HandClock) -> Iterator[Speech]:
    engine = ToneSynthesizer()
    engine.gate.set()
    speech = Speech(engine, 1, 60, Counts(), clock)
    yield speech
    speech.close()


def test_a_phrase_is_spoken_when_the_text_stalls(clock: HandClock, speech: Speech) -> None:
    log: list[SpeechBlock | str] = []
    sink = Sink(log)
    speech.begin("a", None, 1.0, Sink([]))
    speech.feed("a", "I can hear a dog and a", False, sink)
    clock.advance(STALL_S / 2)
    clock.settle()
    assert not sink.done.is_set()
    assert log == []
    clock.advance(STALL_S / 2 + 0.001)
    assert sink.done.wait(TIMEOUT_S)
    assert sources(log) == ["I can hear a dog and "]
    last = Sink(log)
    speech.feed("a", " car.", True, last)
    assert last.done.wait(TIMEOUT_S)
    assert sources(log) == ["I can hear a dog and ", "a car."]
    assert speech.live == 0


def test_what_waits_for_more_leaves_the_voice_50_ms_of_0_3_s() -> None:
    """The last token before a stall may wait in postprocess, and the phrase for more text."""
    assert LONGEST_WAIT_S + STALL_S <= 0.25


def test_text_that_comes_in_time_is_not_cut(clock: HandClock, speech: Speech) -> None:
    log: list[SpeechBlock | str] = []
    speech.begin("a", None, 1.0, Sink([]))
    sinks = [Sink(log) for _ in range(5)]
    for sink, word in zip(sinks, ["One", " two", " three", " four", " five."], strict=True):
        speech.feed("a", word, word.endswith("."), sink)
        if not word.endswith("."):
            clock.advance(STALL_S * 0.9)
            clock.settle()
    assert all(sink.done.wait(TIMEOUT_S) for sink in sinks)
    assert sources(log) == ["One two three four five."]


def test_a_stall_without_a_word_ends_the_sink_and_says_nothing(clock: HandClock, speech: Speech) -> None:
    log: list[SpeechBlock | str] = []
    sink = Sink(log)
    speech.begin("a", None, 1.0, Sink([]))
    speech.feed("a", "**", False, sink)
    clock.advance(STALL_S + 0.001)
    assert sink.done.wait(TIMEOUT_S)
    assert log == []


@pytest.mark.parametrize("how", ["stop", "close", "begin", "cancel"])
def test_a_sink_that_waits_for_more_text_is_finished_when_the_answer_ends_early(
    speech: Speech, how: str
) -> None:
    sink = Sink([])
    speech.begin("a", None, 1.0, Sink([]))
    speech.feed("a", "I can hear", False, sink)
    assert not sink.done.is_set()
    if how == "stop":
        speech.stop("a")
    elif how == "close":
        speech.close()
    elif how == "begin":
        speech.begin("a", None, 1.0, Sink([]))
    else:
        speech.feed("a", " more", False, Sink([], gone=True))
    assert sink.done.wait(TIMEOUT_S)


def test_the_watch_calls_each_key_once_in_the_order_of_their_deadlines(clock: HandClock) -> None:
    stalled: list[str] = []
    third = threading.Event()

    def note(key: str) -> None:
        stalled.append(key)
        if len(stalled) == 3:
            third.set()

    watch = StallWatch(1.0, note, clock)
    for key in "abcd":
        watch.touch(key)
    watch.forget("c")
    clock.advance(0.5)
    clock.settle()
    watch.touch("a")
    clock.advance(0.6)
    clock.settle()
    assert stalled == ["b", "d"]
    clock.advance(0.5)
    assert third.wait(TIMEOUT_S)
    watch.close()
    watch.close()  # twice is once
    assert stalled == ["b", "d", "a"]


def test_by_the_clock_on_the_wall_a_phrase_is_spoken_too() -> None:
    engine = ToneSynthesizer()
    engine.gate.set()
    speech = Speech(engine, 1, 60, Counts())
    log: list[SpeechBlock | str] = []
    sink = Sink(log)
    speech.begin("a", None, 1.0, Sink([]))
    speech.feed("a", "There is a dog. ", False, sink)
    assert sink.done.wait(TIMEOUT_S)
    assert sources(log) == ["There is a dog. "]
    speech.close()


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("I can hear a dog", "I can hear a "),  # "dog" may become "dogs"
        ("I can hear a dog ", "I can hear a dog "),
        ("I can hear a dog,", "I can hear a dog,"),
        ("It plays at 440", "It plays at "),
        ("It plays at 440 ", "It plays at "),  # a unit may follow
        ("It plays at 440 Hz", "It plays at "),
        ("It plays at 440 Hz now", "It plays at 440 Hz "),
        ("It is 3.", "It is "),  # 3.14
        ("It is in B", "It is in "),
        ("Three × four", ""),
        ("The law $E = m c^2", "The "),
        (r"The law \(E = m", "The "),
        ("dog", ""),
        ("", ""),
        ("A dog <think>and a cat ", "A "),
    ],
)
def test_a_stalled_phrase_keeps_words_and_quantities_whole(text: str, phrase: str) -> None:
    segmenter = Segmenter()
    assert segmenter.push(text) == []
    found = segmenter.stalled()
    assert "".join(segment.source for segment in found) == phrase
    rest = segmenter.push(" and more.") + segmenter.flush()
    assert "".join(segment.source for segment in found + rest) == text + " and more." or "<think>" in text
