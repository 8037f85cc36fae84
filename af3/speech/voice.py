"""One interface for every kind of voice: formant, neural, or a language model of audio tokens with a codec.

The server loads each `Synthesizer` (an engine) once. `Synthesizer.voice` opens a `Voice`: one speaker at one rate for
one request. A `Voice` speaks its segments one after another.

- A formant voice (`espeak.py`) yields what its program writes and keeps nothing between segments.
- A neural voice (`vits.py`) computes the length of a segment first, then yields it in pieces; one that cannot be cut
  (`kokoro.py`) asks for short segments by its `pace`.
- A token-LM + codec voice, such as the paper's AF3-Chat, decodes audio tokens and yields the codec's frames as they
  come. It keeps the text and audio tokens so far in the `Voice`, which lives as long as the answer, is used by one
  thread at a time, and gets the text in order. Its LM may batch several voices inside the `Synthesizer`. When the
  listener leaves, the caller closes the iterator; the voice must then stop decoding.

A new engine is a class here and a line in `catalogue.py`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from af3.speech.segmenter import Pace

Pcm = NDArray[np.int16]

MIN_RATE, MAX_RATE = 0.5, 2.0  # times the voice's own speed; every voice keeps to it


class VoiceFailed(Exception):
    """A voice failed on a segment. Callers see the message; the text stream continues."""


class Voice(Protocol):
    """One speaker at one rate, for one request, used by one thread at a time."""

    sample_rate: int
    pace: Pace  # how long its segments should be

    def speakable(self, text: str) -> str:
        """The words this voice says for `text`, the output of `spoken.markup.plain`; empty if there are none."""
        ...

    def speak(self, text: str) -> Generator[Pcm, None, None]:
        """Speak one segment: mono int16 PCM at `sample_rate`, in blocks of any length, as they are made.

        Closing the iterator stops the synthesis. Raises VoiceFailed.
        """
        ...

    def interrupt(self) -> None:
        """Abort the current segment, because the listener has left. On any thread; the voice is not used again."""
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
