"""Two hundred sentences that the server may say: numbers, music, sounds, commands. The same in every run."""

from __future__ import annotations

import itertools

import numpy as np

NUMBERS = "one two three four five six seven eight nine ten eleven twelve thirteen twenty thirty fifty ninety".split()
INSTRUMENTS = "piano guitar violin trumpet flute drum organ cello harp saxophone clarinet banjo".split()
SOUNDS = (
    "a dog barking,a car passing,rain on the roof,thunder,a door closing,a baby crying,footsteps,a siren,wind,"
    "a bell ringing,people talking,water running,an engine starting,birds singing,applause,a clock ticking"
).split(",")
WORDS = "yes no up down left right on off stop go happy house water music morning evening".split()
FRAMES = (
    "The speaker says {number} {number} {number}.",
    "I can hear {sound} and then {sound}.",
    "The instrument is a {instrument}.",
    "There is a {instrument} and a {instrument} in the recording.",
    "The word is {word}.",
    "The sound lasts about {number} seconds.",
    "It is {sound}, followed by {sound}.",
    "A woman is speaking, and there is {sound} in the background.",
    "The song is played on a {instrument} for {number} minutes.",
    "The man said {word} and {word}.",
    "There are {number} people in the room.",
    "The music is slow and quiet, with a {instrument}.",
)


def sentences(count: int = 200) -> list[str]:
    """The first `count` of them, all different."""
    generator = np.random.default_rng(18)
    words = {"number": NUMBERS, "instrument": INSTRUMENTS, "sound": SOUNDS, "word": WORDS}
    found: dict[str, None] = {}
    for number in itertools.count():
        if len(found) == count:
            break
        frame = FRAMES[number % len(FRAMES)]
        for kind, choices in words.items():
            while f"{{{kind}}}" in frame:
                frame = frame.replace(f"{{{kind}}}", str(generator.choice(choices)), 1)
        found[frame] = None
    return list(found)
