"""Where speech begins and ends, by the probability that a frame is speech."""

from __future__ import annotations

import math
from typing import Literal

from .voice_activity import FRAME_MS

START_FRAMES = 2  # of speech in a row begin a turn
SURE = 0.2  # so much above the threshold, one is enough: interrupting has to work within a tenth of a second
HYSTERESIS = 0.15  # between "speech" and "silence" it stays as it was


class TurnDetector:
    """Frames of one talk, one after the other."""

    def __init__(self, threshold: float, silence_ms: int, longest_ms: float):
        """threshold: from this probability on a frame is speech. silence_ms: so long a pause ends a turn.
        longest_ms: so long after its start a turn ends as it is, and another may begin.
        """
        self._speech = threshold
        self._sure = threshold + SURE
        self._silence = max(0.01, threshold - HYSTERESIS)
        self._silence_frames = math.ceil(silence_ms / FRAME_MS)
        self._longest_ms = longest_ms
        self.speaking = False
        self._run = 0  # frames in a row that speak for a change
        self._length = 0  # frames since the start of the turn

    def take(self, probability: float) -> Literal["start", "stop"] | None:
        """`start`: speech began in the last START_FRAMES, this one among them; `stop`: the pause has been long
        enough.
        """
        if not self.speaking:
            self._run = self._run + 1 if probability >= self._speech else 0
            if self._run < START_FRAMES and probability < self._sure:
                return None
            self.reset(speaking=True)
            return "start"
        self._length += 1
        if probability < self._silence:
            self._run += 1
        elif probability >= self._speech:
            self._run = 0
        if self._run < self._silence_frames and self._length * FRAME_MS < self._longest_ms:
            return None
        self.reset()
        return "stop"

    def reset(self, speaking: bool = False) -> None:
        self.speaking, self._run, self._length = speaking, 0, 0
