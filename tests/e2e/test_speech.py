"""The speech ensemble on a real server: text and speech of the same answer, in order, stopped, failing."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from serving.door.door import Door
from serving.host.triton import Server
from tests.support import scrape
from tests.support.clips import clip
from tests.support.hearing import LONG, SPEECH, Heard, hear
from tests.support.wire import Refused, Stream, ask, text_of

WAIT_S = 60


def test_the_text_is_that_of_the_ensemble_without_speech(url: str) -> None:
    heard = hear(url, seed=1)
    silent = ask(url, [clip(0.5, seed=1)], "Go on.", parameters={**LONG, "seed": 1})
    assert heard.text == text_of(silent)
    assert heard.indices == list(range(len(heard.indices)))
    assert heard.finish_reason == silent[-1].finish_reason


def test_the_speech_is_that_of_the_text_and_comes_after_it(url: str) -> None:
    heard = hear(url, seed=2)
    assert heard.spoken
    assert heard.text.startswith(heard.spoken)
    assert heard.text_first
    assert heard.rates == {22050}
    assert heard.errors == []
    assert max(map(len, heard.blocks)) <= 0.15 * 22050


def test_the_speech_of_16_requests_at_once_never_mixes_and_is_in_order(url: str) -> None:
    seeds = range(20, 36)
    alone = [hear(url, seed) for seed in seeds[:4]]
    with ThreadPoolExecutor(len(seeds)) as pool:
        together = list(pool.map(lambda seed: hear(url, seed), seeds))
    assert len({heard.text for heard in together}) == len(seeds)
    for heard in together:
        assert heard.text.startswith(heard.spoken)
        assert heard.text_first
        assert heard.errors == []
    for one, same in zip(alone, together, strict=False):
        assert one.text == same.text
        assert one.spoken == same.spoken
        # Text that stalls on a busy machine is cut once more, which adds a pause and changes the rhythm a little.
        assert sum(one.seconds) == pytest.approx(sum(same.seconds), rel=0.1)
        # eSpeak NG's noise differs from one utterance to the next, and with it by a few frames what is trimmed.
        if one.segments == same.segments:
            assert one.seconds == pytest.approx(same.seconds, abs=0.1)


def test_a_cancelled_answer_is_spoken_no_further(url: str, server: Door) -> None:
    stream = Stream(
        url, [clip(0.5, seed=3)], "Go on.", parameters={**LONG, "max_tokens": 1024, "seed": 3}, model=SPEECH
    )
    for result in stream.results():
        if result.as_numpy("speech") is not None:
            stream.cancel()
            break
    scrape.wait_until(lambda: scrape.read(server)["af3_speech_live"] == 0)
    scrape.wait_until(lambda: scrape.read(server)["af3_answers_live"] == 0)
    spoken_s = scrape.read(server)["af3_speech_audio_seconds"]
    assert hear(url, seed=4, max_tokens=8).errors == []
    after_s = scrape.read(server)["af3_speech_audio_seconds"]
    assert after_s - spoken_s < 10  # of the eight tokens; a thousand take minutes


def test_stop_ends_the_speech_of_a_request_and_not_its_text(url: str) -> None:
    heard = Heard()
    stream = Stream(url, [clip(0.5, seed=5)], "Go on.", parameters={**LONG, "seed": 5}, model=SPEECH)
    for result in stream.results():
        heard.take(result)
        if len(heard.blocks) == 1:
            stream.stop_speech()
            heard.blocks.append(np.zeros(0, np.int16))
    whole = hear(url, seed=5)
    assert heard.text == whole.text
    assert len(heard.pcm) < len(whole.pcm)


@pytest.fixture
def hung_voices(triton: Server) -> Iterator[None]:
    """Every eSpeak NG process of the server stands still."""
    processes = [pid for pid in _descendants(triton.pid) if "espeak_worker.py" in _command_line(pid)]
    assert processes
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in processes:
        if _command_line(pid):  # those it was found out about have been replaced
            os.kill(pid, signal.SIGCONT)


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found |= {child} | _descendants(child)
    return found


def _command_line(pid: int) -> str:
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_text() if path.exists() else ""


def test_a_voice_that_fails_leaves_the_text_unharmed_and_says_so_once(
    url: str, server: Door, hung_voices: None
) -> None:
    failures = scrape.read(server)["af3_speech_failures"]
    heard = hear(url, seed=6)
    assert heard.errors == ["the voice broke off in the middle of a segment"]
    assert scrape.read(server)["af3_speech_failures"] == failures + 1
    assert heard.blocks == []
    assert heard.text == text_of(ask(url, [clip(0.5, seed=6)], "Go on.", parameters={**LONG, "seed": 6}))


def test_after_a_failure_the_voice_is_back(url: str) -> None:
    assert hear(url, seed=7).blocks


def test_the_metrics_tell_first_audio_gaps_real_time_factor_and_underruns(url: str, server: Door) -> None:
    before = scrape.settled(server)
    heard = hear(url, seed=10, max_tokens=60)

    def grown(name: str) -> float:
        return scrape.read(server)[name] - before[name]

    scrape.wait_until(lambda: grown("af3_speech_segments") == len(heard.starts))
    assert grown("af3_speech_audio_seconds") == pytest.approx(sum(heard.seconds), abs=0.01)
    assert grown("af3_speech_first_audio_seconds_count") == 1
    assert grown("af3_speech_first_audio_seconds_sum") > 0
    assert grown("af3_speech_gap_seconds_count") == len(heard.starts)
    assert 0 < grown("af3_speech_compute_seconds") < WAIT_S
    assert 0 <= grown("af3_speech_underruns") <= len(heard.starts)
    assert grown("af3_speech_failures") == 0
    assert scrape.read(server)["af3_speech_live"] == 0


def test_every_voice_and_rate_speaks(url: str) -> None:
    slow = hear(url, seed=8, max_tokens=40, voice="en-gb", rate=0.5)
    fast = hear(url, seed=8, max_tokens=40, voice="en-gb", rate=2.0)
    assert slow.spoken == fast.spoken
    assert len(slow.pcm) > 2 * len(fast.pcm) > 0


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"voice": "nobody"}, "parameter 'voice': there is no 'nobody'; choose one of en-us, "),
        ({"rate": 2.5}, "parameter 'rate': "),
        ({"rate": 0.1}, "parameter 'rate': "),
        ({"rate": "fast"}, "parameter 'rate': "),
    ],
)
def test_a_voice_or_rate_that_is_not_there_is_refused_before_anything_is_computed(
    url: str, parameters: dict[str, object], sentence: str
) -> None:
    with pytest.raises(Refused, match="INVALID_ARGUMENT") as refused:
        hear(url, seed=9, **parameters)
    assert sentence in refused.value.message
