"""Which natural clips the evaluation asks about, and what is done to them."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from training import judge, natural_evaluation, unknown
from training.natural_evaluation import COUNTS, HeldOutVoices, Said, Sources, candidate, digest, heard, placed
from training.natural_voices import HELD_OUT
from training.questions import GENERAL_KNOWLEDGE
from training.signals import Pcm

SPEECH = np.sin(np.arange(8000) / 7).astype(np.float32)


class Voices(HeldOutVoices):
    """Speaks without the graph: the same tone for all."""

    def speech(self, said: Said) -> Pcm:
        return SPEECH


SOURCES = Sources(studio=None, voices=Voices())


def committed() -> dict:
    return json.loads(natural_evaluation.UNREAD.read_text())["kinds"]


@pytest.mark.parametrize("kind", COUNTS)
def test_the_clips_that_were_judged_are_those_that_are_drawn(kind: str) -> None:
    """Where this fails the texts have changed: run python -m training.judge."""
    entry = committed()[kind]
    assert entry["digest"] == digest(kind, entry["candidates"])
    assert entry["candidates"] - len(entry["unread"]) == COUNTS[kind]


@pytest.mark.parametrize("kind", COUNTS)
def test_nothing_is_asked_about_a_clip_that_was_not_read(kind: str) -> None:
    unread = {candidate(kind, int(number)).key for number in committed()[kind]["unread"]}
    drawn = [*islice(natural_evaluation.readable(kind), COUNTS[kind])]
    assert len(drawn) == COUNTS[kind]
    assert unread.isdisjoint(said.key for said in drawn)


def test_more_clips_than_were_judged_are_refused() -> None:
    with pytest.raises(LookupError, match=r"python -m training\.judge"):
        list(natural_evaluation.readable("command"))


@pytest.mark.parametrize("kind", COUNTS)
def test_every_held_out_voice_speaks_alone_at_a_speed_in_the_range(kind: str) -> None:
    said = [candidate(kind, number) for number in range(60)]
    assert {one.voice for one in said} == set(HELD_OUT)
    assert all(0.85 <= one.speed <= 1.2 for one in said)
    assert len({one.key for one in said}) == 60


def test_no_unknown_sentence_is_one_that_it_was_taught() -> None:
    texts = [candidate("unknown", number).text for number in range(natural_evaluation.MOST_SENTENCES)]
    assert len({*texts}) == len(texts)
    assert not {*texts} & {*GENERAL_KNOWLEDGE}


def test_a_spoken_question_comes_alone_and_is_answered() -> None:
    (turn,) = next(heard("question")(SOURCES))
    (clip,) = turn.parts
    assert turn.answer == GENERAL_KNOWLEDGE[clip.traits["text"]]


def test_an_unknown_sentence_comes_alone_and_gets_the_honest_one() -> None:
    (turn,) = next(heard("unknown")(SOURCES))
    assert len(turn.parts) == 1
    assert turn.answer == unknown.HONEST


@pytest.mark.parametrize("kind", ["one digit", "four digits", "command"])
def test_what_is_said_is_asked_for_by_the_transcript(kind: str) -> None:
    (turn,) = next(heard(kind)(SOURCES))
    clip, text = turn.parts
    assert text == "Transcribe the input speech."
    assert turn.answer == f'The spoken content of the audio is "{clip.traits["text"]}".'


@pytest.mark.parametrize("seed", range(8))
def test_the_noise_is_as_far_below_the_speech_as_asked_and_the_clip_is_the_same(seed: int) -> None:
    clean = placed(np.random.default_rng(seed), SPEECH)
    noisy = placed(np.random.default_rng(seed), SPEECH, noise_db=15)
    speech = clean[np.flatnonzero(clean)[0] :][: len(SPEECH)]
    noise_only = noisy - clean
    decibels = 10 * np.log10(np.square(speech).mean() / np.square(noise_only).mean())
    assert decibels == pytest.approx(15, abs=0.3)


def test_a_clip_is_spoken_once_and_is_the_same_from_the_cache(tmp_path: Path) -> None:
    class Counting:
        spoken: list[tuple] = []  # noqa: RUF012

        def say(self, text: str, mix: dict, speed: float, british: bool) -> Pcm:
            self.spoken.append((text, mix, speed, british))
            return SPEECH * np.float32(0.77777)

    said = candidate("command", 4)
    voices = HeldOutVoices(tmp_path, Counting())
    first = voices.speech(said)
    assert np.array_equal(first, voices.speech(said))
    assert np.array_equal(first, HeldOutVoices(tmp_path).speech(said))
    assert Counting.spoken == [(said.spoken, {"bf_emma": 1.0}, said.speed, True)]


def test_the_judge_goes_on_until_enough_clips_are_read_and_names_the_others() -> None:
    missed = {1, 4, 10}
    calls: list[int] = []

    def listen(kind: str, clips: list[Pcm]) -> list[str]:
        start = sum(calls)
        calls.append(len(clips))
        return [
            "mumble" if start + i in missed else candidate(kind, start + i).text for i in range(len(clips))
        ]

    entry = judge.judged("command", 10, lambda said: SPEECH, listen)
    assert calls == [10, 2, 1]
    assert entry["candidates"] == 13
    assert {int(number) for number in entry["unread"]} == missed
    assert entry["unread"]["1"] == [candidate("command", 1).text, "mumble"]


def test_the_recogniser_chooses_among_what_a_clip_of_the_kind_can_say() -> None:
    for kind in COUNTS:
        for number in range(30):
            rest = candidate(kind, number).text
            for texts in judge.choices(kind):
                word = next(text for text in sorted(texts, key=len, reverse=True) if rest.startswith(text))
                rest = rest.removeprefix(word).lstrip()
            assert rest == ""
