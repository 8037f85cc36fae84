"""Where speech begins and ends, by the probability that a frame is speech."""

from __future__ import annotations

import math
from typing import Literal

FRAME_MS = 32  # of the voice activity model: 512 samples at 16 kHz
START_FRAMES = 2  # 64 ms of voice are speech: interrupting has to work within a tenth of a second
HYSTERESIS = 0.15  # between "speech" and "silence" it stays as it was
LONGEST_MS = 300_000  # then a turn is answered as it is, and another begins


class TurnDetector:
    """Frames of one session, one after the other."""

    def __init__(self, threshold: float, silence_ms: int):
        self._speech = threshold
        self._silence = max(0.01, threshold - HYSTERESIS)
        self._silence_frames = math.ceil(silence_ms / FRAME_MS)
        self.speaking = False
        self._run = 0  # frames in a row that speak for a change
        self._length = 0  # frames of the turn

    def take(self, probability: float) -> Literal["start", "stop"] | None:
        """`start`: speech began START_FRAMES before the end of this frame; `stop`: the pause has been long enough."""
        if not self.speaking:
            self._run = self._run + 1 if probability >= self._speech else 0
            if self._run < START_FRAMES:
                return None
            self.reset(speaking=True)
            return "start"
        self._length += 1
        if probability < self._silence:
            self._run += 1
        elif probability >= self._speech:
            self._run = 0
        if self._run < self._silence_frames and self._length * FRAME_MS < LONGEST_MS:
            return None
        self.reset()
        return "stop"

    def reset(self, speaking: bool = False) -> None:
        self.speaking, self._run, self._length = speaking, 0, 0
