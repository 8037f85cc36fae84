"""The evaluation in natural voices: what is said, by which held-out voice and how fast, and what is asked about it.

A clip is spoken once and kept in .cache/af3-tiny/natural_evaluation/. Clips that an independent recogniser could not
read (UNREAD, which `python -m training.judge` writes) are left out: nothing is asked about them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np

from training import unknown
from training.dialogs import Turn
from training.natural_voices import HELD_OUT, NaturalVoices
from training.questions import GENERAL_KNOWLEDGE, transcript
from training.scenes import COMMANDS, DIGITS, Clip, Studio
from training.signals import SAMPLE_RATE, Pcm, noise

FOLDER = Path(".cache/af3-tiny/natural_evaluation")
UNREAD = Path(__file__).with_name("unread_clips.json")
SEED = 4243
SPEEDS = (0.85, 1.2)
SILENCE_S = (0.0, 0.35)  # before and after
PEAKS = (0.1, 0.8)
TILTS = (0.0, 0.5)  # white and pink
GRAPH = 1  # count up when the voices' graph changes: the clips are spoken again
MOST_SENTENCES = 150

TRANSCRIBE = "Transcribe the input speech."
Rng = np.random.Generator


def _digits(count: int) -> Callable[[Rng, int], str]:
    return lambda rng, number: " ".join(rng.choice(DIGITS, count))


@cache
def _sentences() -> list[str]:
    return unknown.distinct(MOST_SENTENCES, SEED, spoken=True)


DIGIT_COUNTS = {"one digit": 1, "three digits": 3, "four digits": 4}
# What candidate `number` of a kind says.
KINDS: dict[str, Callable[[Rng, int], str]] = {
    **{kind: _digits(count) for kind, count in DIGIT_COUNTS.items()},
    "command": lambda rng, number: str(rng.choice(COMMANDS)),
    "question": lambda rng, number: str(rng.choice([*GENERAL_KNOWLEDGE])),
    "unknown": lambda rng, number: _sentences()[number],
}


# How many of each kind are asked about.
COUNTS = dict.fromkeys(KINDS, 100) | {"unknown": 50}


@dataclass(frozen=True)
class Said:
    """A clip to speak. text: lower case, without marks; spoken: what the voice is given."""

    text: str
    spoken: str
    voice: str
    speed: float

    @property
    def key(self) -> str:
        content = json.dumps([GRAPH, self.spoken, self.voice, self.speed])
        return hashlib.sha256(content.encode()).hexdigest()[:24]


def candidate(kind: str, number: int) -> Said:
    """Draw what is said in candidate `number`; each candidate depends on its kind and number alone."""
    rng = np.random.default_rng([SEED, crc32(kind.encode()), number])
    text = KINDS[kind](rng, number)
    spoken = text.replace(" ", ", ") if kind.endswith("digits") and rng.random() < 0.5 else text
    asks = text in GENERAL_KNOWLEDGE or text.split()[0] in "what who how where when why which".split()
    spoken += "?" if asks else str(rng.choice(["", "."]))
    return Said(text, spoken, HELD_OUT[number % len(HELD_OUT)], round(float(rng.uniform(*SPEEDS)), 3))


def digest(kind: str, count: int) -> str:
    """Identify the first `count` candidates of a kind."""
    keys = " ".join(candidate(kind, number).key for number in range(count))
    return hashlib.sha256(keys.encode()).hexdigest()[:16]


def readable(kind: str) -> Iterator[Said]:
    """Yield the candidates that the recogniser read. Raises LookupError where no more were judged."""
    judged = json.loads(UNREAD.read_text())["kinds"].get(kind, {"candidates": 0, "unread": {}})
    for number in range(judged["candidates"]):
        if str(number) not in judged["unread"]:
            yield candidate(kind, number)
    raise LookupError(
        f"{UNREAD.name} has judged {judged['candidates']} clips of the kind {kind!r}, and more are asked for; "
        "run python -m training.judge"
    )


@dataclass
class HeldOutVoices:
    """Speaks the clips of the evaluation, each once. The voices are only loaded when a clip is missing."""

    folder: Path = FOLDER
    _voices: NaturalVoices | None = field(default=None, repr=False)

    def speech(self, said: Said) -> Pcm:
        """Return float32 [n] at 16 kHz with a peak of 1; the second time the same samples, from the cache."""
        path = self.folder / f"{said.key}.npy"
        if not path.exists():
            self._voices = self._voices or NaturalVoices()
            british = said.voice.startswith("b")
            pcm = self._voices.say(said.spoken, {said.voice: 1.0}, said.speed, british)
            self.folder.mkdir(parents=True, exist_ok=True)
            made = path.with_suffix(".new")
            with made.open("wb") as file:
                np.save(file, np.round(pcm * 32767).astype(np.int16))
            made.replace(path)
        return np.load(path).astype(np.float32) / 32767

    def close(self) -> None:
        if self._voices is not None:
            self._voices.close()

    def __enter__(self) -> HeldOutVoices:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Sources:
    """What a task makes its clips with."""

    studio: Studio
    voices: HeldOutVoices


Ask = Callable[[Sources], Iterator[list[Turn]]]


def speech_clip(text: str, pcm: Pcm) -> Clip:
    said = transcript(text)
    return Clip(pcm, "speech", f'a voice that says "{text}"', said, (), (), {"text": text})


def placed(rng: Rng, speech: Pcm, noise_db: float | None = None) -> Pcm:
    """Put speech at a loudness between silences; with `noise_db` there is noise so far below the speech.

    The same generator gives the same clip with and without noise.
    """
    before, after = (np.zeros(int(s * SAMPLE_RATE), np.float32) for s in rng.uniform(*SILENCE_S, 2))
    peak = np.float32(np.exp(rng.uniform(*np.log(PEAKS))))
    pcm = peak * np.concatenate([before, speech, after])
    if noise_db is None:
        return pcm
    hiss = noise(rng, len(pcm), tilt=float(rng.choice(TILTS)))
    level = peak * _power(speech) ** 0.5 * 10 ** (-noise_db / 20) / _power(hiss) ** 0.5
    return np.clip(pcm + np.float32(level) * hiss, -1, 1)


def _power(pcm: Pcm) -> float:
    return float(np.square(pcm).mean())


def heard(kind: str, noise_db: float | None = None) -> Ask:
    """Ask what is said; a spoken question comes alone and is answered, and so is an unknown sentence."""

    def ask(sources: Sources) -> Iterator[list[Turn]]:
        for said in readable(kind):
            rng = np.random.default_rng(int(said.key, 16))
            clip = speech_clip(said.text, placed(rng, sources.voices.speech(said), noise_db))
            if kind == "question":
                yield [Turn((clip,), GENERAL_KNOWLEDGE[said.text], kind)]
            elif kind == "unknown":
                yield [Turn((clip,), unknown.HONEST, kind)]
            else:
                yield [Turn((clip, TRANSCRIBE), transcript(said.text), kind)]

    return ask


def backwards(sources: Sources) -> Iterator[list[Turn]]:
    """Ask for a transcript of spoken questions that are played backwards: no word of them can be understood."""
    for said in readable("question"):
        pcm = sources.voices.speech(said)[::-1].copy()
        clip = speech_clip("", placed(np.random.default_rng(int(said.key, 16)), pcm))
        yield [Turn((clip, TRANSCRIBE), unknown.HONEST, "backwards")]
