"""Says when a voice is too slow for its listener, and what speaks instead.

A machine that makes more speech than it can in time lets every listener wait. An answer whose next segment would come
late goes on with a voice that costs nothing: artificial, but without a gap.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

import numpy as np
import soxr

from af3.speech.meter import Listener, SegmentReport
from af3.speech.segmenter import Pace
from af3.speech.voice import Pcm, Voice

PATIENCE_S = 1.0  # a shorter silence is better than another voice
CHARACTERS_PER_S = 15.0
MEMORY = 0.7  # of the last segments' cost; the newest counts 0.3


class KeepUp:
    """What a second of speech costs on this machine now, and how late the next segment would be for it."""

    def __init__(self) -> None:
        self._factor: float | None = None
        self._lock = threading.Lock()

    def learn(self, report: SegmentReport) -> None:
        """A segment of a voice that computes was spoken."""
        factor = report.compute_s / max(report.audio_s, 0.1)
        with self._lock:
            self._factor = factor if self._factor is None else MEMORY * self._factor + (1 - MEMORY) * factor

    def late_s(self, listener: Listener, arrived_s: float, characters: int) -> float:
        """Seconds of silence before a segment of so many characters, whose text came at `arrived_s`, if made now.

        Of an answer's first segment, the whole wait for it.
        """
        now = time.monotonic()
        making_s = (self._factor or 0.0) * characters / CHARACTERS_PER_S
        return now + making_s - max(listener.played_until_s or arrived_s, arrived_s)


class Resampled:
    """A voice at the sample rate of another, so that an answer that changes voices stays one sound."""

    def __init__(self, voice: Voice, sample_rate: int):
        self._voice = voice
        self.sample_rate = sample_rate
        self.pace: Pace = voice.pace

    def speakable(self, text: str) -> str:
        return self._voice.speakable(text)

    def speak(self, text: str) -> Generator[Pcm, None, None]:
        if self._voice.sample_rate == self.sample_rate:
            yield from self._voice.speak(text)
            return
        stream = soxr.ResampleStream(self._voice.sample_rate, self.sample_rate, 1, dtype="int16")
        for block in self._voice.speak(text):
            yield stream.resample_chunk(block)
        yield stream.resample_chunk(np.zeros(0, np.int16), last=True)

    def interrupt(self) -> None:
        self._voice.interrupt()
