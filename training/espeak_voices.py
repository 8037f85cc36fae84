"""The espeak-ng accents and variants used here; every fifth variant is held out for evaluation."""

from __future__ import annotations

import numpy as np

from training.espeak_process import ESPEAK_HZ, Espeak, Utterance
from training.signals import SAMPLE_RATE, normalised, resample, trimmed

ACCENTS = ("en-us", "en-us", "en", "en-gb-x-rp", "en-us-nyc")

# Left out: whispers, croaks, robots, demons, and variants that people cannot understand either.
VARIANTS = """
Alex Alicia Andrea Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Mario Michael Mike Nguyen Reed
RicishayMax Storm Tweaky adam anika announcer antonio aunty belinda benjamin boris caleb david ed edward edward2
f1 f2 f3 f4 f5 grandma grandpa gustave ian iven iven2 iven3 iven4 john kaukovalta klatt klatt2 klatt3 klatt4 linda
m1 m2 m3 m4 m5 m6 m7 m8 marcelo max michel miguel mike2 norbert pablo paul pedro quincy rob robert sandro shelby
steph steph2 steph3 travis victor zac
""".split()
HELD_OUT = VARIANTS[4::5]
TRAINING = [name for name in VARIANTS if name not in HELD_OUT]

# Training plays each voice a little slower or faster than espeak-ng made it, which gives more distinct voices.
SLOWEST_HZ, FASTEST_HZ = 21000, 23100

SLOW_RATES, NORMAL_RATES, FAST_RATES = (105, 130), (140, 200), (235, 280)
PACES = {"slowly": SLOW_RATES, "normally": NORMAL_RATES, "fast": FAST_RATES}


class Speaker:
    """Speaks with one voice drawn at random from the training voices or from the held-out ones."""

    def __init__(
        self, rng: np.random.Generator, espeak: Espeak, held_out: bool, pace: str = "normally"
    ) -> None:
        variant = rng.choice(HELD_OUT if held_out else TRAINING)
        self._espeak = espeak
        self._voice = f"{rng.choice(ACCENTS)}+{variant}"
        self._rate = int(rng.integers(*PACES[pace]))
        self._pitch = int(rng.integers(25, 76))
        self._pitch_range = int(rng.integers(30, 81))
        self._hz = ESPEAK_HZ if held_out else 10 * int(rng.integers(SLOWEST_HZ // 10, FASTEST_HZ // 10))
        self._word_gap = int(rng.integers(0, 6)) if pace == "normally" else 0

    def say(self, text: str) -> np.ndarray:
        """Speak as float32 [n] at 16 kHz with a peak of 1; the silence that espeak-ng adds is cut off."""
        utterance = Utterance(text, self._voice, self._rate, self._pitch, self._pitch_range, self._word_gap)
        return trimmed(normalised(resample(self._espeak.say(utterance), self._hz, SAMPLE_RATE)))
