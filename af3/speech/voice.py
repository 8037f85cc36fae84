"""What speaks: one interface for a formant voice, a neural voice and a token-LM + codec voice.

A `Synthesizer` is an engine that the server loads once. `Synthesizer.voice` opens a `Voice`: one
speaker at one rate for one request. A voice may remember what it has said (a token-LM voice
conditions on its past audio tokens), and it yields PCM as soon as it has some, so an engine that
makes audio token by token streams through the same two methods as one that returns a sentence at once.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from af3.errors import invalid

Pcm = NDArray[np.int16]

MIN_RATE, MAX_RATE = 0.5, 2.0  # times the voice's own speed; every voice keeps to it


class VoiceFailed(Exception):
    """A voice could not speak a segment. The message is meant for the caller; the text stream goes on."""


class Voice(Protocol):
    """One speaker at one rate, for one request, used by one thread at a time."""

    sample_rate: int

    def speakable(self, text: str) -> str:
        """The part of `text` that this voice can pronounce; empty when there is none."""
        ...

    def speak(self, text: str) -> Generator[Pcm, None, None]:
        """`text`, one segment → mono int16 PCM blocks of any length at `sample_rate`, as they are made.

        Closing the iterator stops the synthesis. Raises VoiceFailed.
        """
        ...


class Synthesizer(Protocol):
    """An engine with one or more voices; safe to use from several threads."""

    voices: tuple[str, ...]

    def voice(self, name: str, rate: float) -> Voice:
        """Open a voice that `voices` names, at `rate` times its own speed."""
        ...

    def close(self) -> None:
        """Free processes and memory. Voices still open fail."""
        ...


def check_voice(name: str, available: Sequence[str]) -> str:
    """`name` if it is `available`; raises RequestError that names both otherwise."""
    if name in available:
        return name
    raise invalid(f"parameter 'voice': there is no {name!r}; choose one of {', '.join(available)}")
