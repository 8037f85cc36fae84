"""What the evaluation asks outside the world of af3-tiny, and at its edge: other words, noise, the key of a melody."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from training import dialogs, unknown
from training.dialogs import Turn
from training.natural_evaluation import PEAKS, Sources
from training.questions import GENERAL_KNOWLEDGE, Question
from training.scenes import NOISE_HEARD, Clip, Studio
from training.signals import SAMPLE_RATE, noise

SEED = 4245


def typed_unknown(sources: Sources) -> Iterator[list[Turn]]:
    for text in unknown.distinct(100, SEED, spoken=False):
        yield [Turn((text,), unknown.HONEST, "unknown")]


def unknown_about_a_clip(sources: Sources) -> Iterator[list[Turn]]:
    studio = sources.studio
    for text in unknown.distinct(40, SEED + 1, spoken=False):
        clip = studio.record(str(studio.rng.choice(["digits", "command", "one_sound", "melody"])))
        yield [Turn((clip, text), unknown.HONEST, "unknown")]


_KEY_QUESTIONS = (
    "Is the melody in major or minor?",
    "Which key is the melody in?",
    "Is this in a major or a minor key?",
    "Major or minor?",
)


def key_of_a_melody(studio: Studio) -> list[Turn]:
    studio.layout = dialogs.SHORT
    return [
        Turn((studio.record("melody"), str(studio.rng.choice(_KEY_QUESTIONS))), unknown.HONEST, "unknown")
    ]


def in_other_words(sources: Sources) -> Iterator[list[Turn]]:
    """Ask every question of general knowledge once, in a wording of the evaluation."""
    for text, answer in GENERAL_KNOWLEDGE.items():
        yield [Turn((unknown.paraphrased(sources.studio.rng, text, held_out=True),), answer, "text_only")]


def noise_alone(studio: Studio) -> list[Turn]:
    """Play white or pink noise, alone or with the question what is heard."""
    rng = studio.rng
    pcm = noise(rng, int(rng.uniform(0.5, 4) * SAMPLE_RATE), tilt=float(rng.choice([0, 0.5])))
    pcm *= np.float32(np.exp(rng.uniform(*np.log(PEAKS))))
    clip = Clip(pcm, "sound", "noise", NOISE_HEARD, (), (), {})
    question = Question("hear", NOISE_HEARD).worded(rng, held_out=False)
    return [Turn((clip, question) if rng.random() < 0.5 else (clip,), NOISE_HEARD, "noise")]
