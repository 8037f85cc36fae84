"""What speaks: one interface for a formant voice, a neural voice and a token-LM + codec voice.

A `Synthesizer` is an engine that the server loads once. `Synthesizer.voice` opens a `Voice`: one
speaker at one rate for one request, which speaks its segments one after another.

- A formant voice (`espeak.py`) yields what its program writes; it keeps nothing between segments.
- A neural voice (`vits.py`) knows the length of a segment first and yields it in pieces.
- A token-LM + codec voice, as the paper describes AF3-Chat's, decodes audio tokens and yields the codec's
  frames as they come, of any length. What its LM conditions on, the text and audio tokens so far, it keeps
  in the `Voice`: it lives as long as the answer, is used by one thread at a time, and its `speak` is called
  in the order of the text. Its LM may batch several voices inside the `Synthesizer`. Closing the iterator
  is how it is told that its listener has left; it must then stop decoding.

A new engine is a class here and a line in `catalogue.py`.
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
