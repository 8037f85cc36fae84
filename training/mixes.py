"""What conversations are about, and how often: the mixes that the phases of the training draw from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.scenes import SCENES

PAIR_KEYS = ("higher", "louder", "larger", "same", "which", "nth")


@dataclass(frozen=True)
class Mix:
    """What conversations are about, and how often.

    text_share: without audio; pairs_share: about two clips; the others are about one. scenes: weights of one clip's;
    pairs: weights of PAIR_KEYS. unknown_share: of the questions without audio, those that were not taught;
    in_other_words: of the general knowledge, what is asked in further wordings.
    """

    text_share: float
    pairs_share: float
    scenes: dict[str, float]
    pairs: tuple[float, ...]
    unknown_share: float = 0.0
    in_other_words: float = 0.0

    def scene(self, rng: np.random.Generator) -> str:
        weights = np.array([*self.scenes.values()])
        return str(rng.choice([*self.scenes], p=weights / weights.sum()))

    def pair(self, rng: np.random.Generator) -> str:
        return str(rng.choice(PAIR_KEYS, p=np.array(self.pairs) / sum(self.pairs)))


# Speech is the hardest to learn, so half of all clips are speech.
SYNTHETIC = Mix(
    text_share=0.04,
    pairs_share=0.28,
    scenes={
        "digits": 0.30,
        "command": 0.10,
        "phrase": 0.08,
        "spoken_question": 0.07,
        "one_sound": 0.07,
        "sounds": 0.08,
        "beeps": 0.14,
        "silence": 0.02,
        "one_note": 0.03,
        "melody": 0.09,
        "sound_then_words": 0.07,
    },
    pairs=(0.22, 0.16, 0.12, 0.14, 0.18, 0.18),
)
PEOPLE = Mix(
    text_share=0.10,
    pairs_share=0.18,
    scenes={
        "digits": 0.27,
        "command": 0.14,
        "phrase": 0.06,
        "spoken_question": 0.12,
        "unknown_speech": 0.12,
        "hiss": 0.02,
        "one_sound": 0.05,
        "sounds": 0.06,
        "beeps": 0.10,
        "silence": 0.02,
        "one_note": 0.02,
        "melody": 0.05,
        "sound_then_words": 0.05,
    },
    pairs=(0.18, 0.14, 0.18, 0.14, 0.18, 0.18),
    unknown_share=0.45,
    in_other_words=0.5,
)
# What PEOPLE alone made worse is asked more often: strings of digits, phrases, beeps, tempo.
SETTLED = replace(
    PEOPLE,
    pairs_share=0.14,
    scenes=PEOPLE.scenes | {"digits": 0.42, "phrase": 0.09, "beeps": 0.15, "melody": 0.08},
)
SETTLED_AGAIN = replace(SETTLED, scenes=SETTLED.scenes | {"hiss": 0.05, "beeps": 0.19, "melody": 0.10})
COUNTED_AGAIN = replace(
    SETTLED, scenes=SETTLED.scenes | {"hiss": 0.04, "beeps": 0.17, "melody": 0.10, "unknown_speech": 0.15}
)
SETTLED_AT_LAST = replace(
    COUNTED_AGAIN,
    scenes=COUNTED_AGAIN.scenes | {"digits": 0.55, "beeps": 0.10, "melody": 0.18, "spoken_question": 0.14},
)
assert SYNTHETIC.scenes.keys() | PEOPLE.scenes.keys() <= SCENES.keys()
