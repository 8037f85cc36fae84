"""Detects when a voice is too slow for its listener, and provides the voice that takes over.

On an overloaded machine every listener would have to wait. An answer whose next segment would be late continues with an
instant voice: artificial, but without a gap.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

import numpy as np
import soxr

from af3.speech.meter import Playback, SegmentReport
from af3.speech.segmenter import Pace
from af3.speech.voice import Pcm, Voice

PATIENCE_S = 1.0  # a shorter silence is better than another voice
CHARACTERS_PER_S = 15.0
MEMORY = 0.7  # weight of earlier segments in the moving average; the newest has 0.3


class KeepUp:
    """Tracks the current cost of a second of speech, and predicts how late the next segment would be."""

    def __init__(self) -> None:
        self._factor: float | None = None
        self._lock = threading.Lock()

    def learn(self, report: SegmentReport) -> None:
        """Learn from a spoken segment of a voice that computes."""
        factor = report.compute_s / max(report.audio_s, 0.1)
        with self._lock:
            self._factor = factor if self._factor is None else MEMORY * self._factor + (1 - MEMORY) * factor

    def late_s(self, playback: Playback, arrived_s: float, characters: int) -> float:
        """Predict the silence, in seconds, before a segment of `characters` characters that arrived at `arrived_s`.

        For an answer's first segment, predicts the whole wait.
        """
        now = time.monotonic()
        making_s = (self._factor or 0.0) * characters / CHARACTERS_PER_S
        return now + making_s - max(playback.played_until_s or arrived_s, arrived_s)


class Resampled:
    """A voice at the sample rate of another, so that an answer keeps its rate when it changes voices."""

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
