"""Times the speech of a segment, and estimates when its listener runs out of audio."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class SegmentReport:
    """Times of one segment in seconds. latency_s: from the text that completed it to its first block."""

    first_of_request: bool
    latency_s: float
    longest_gap_s: float  # between two blocks of the answer, including the gap before the segment
    compute_s: float
    audio_s: float
    underrun: bool  # a block came after the listener had played everything before it


@dataclass
class Playback:
    """The playback position of a client that plays an answer as it arrives."""

    segments: int = 0  # segments sent
    last_block_s: float | None = None  # when the last block was sent
    played_until_s: float = 0.0  # when everything sent so far will have been played


class Meter:
    """Times one segment."""

    def __init__(self, playback: Playback, arrived_s: float):
        self._playback = playback
        self._arrived_s = arrived_s
        self._started_s = time.monotonic()
        self._first_s = 0.0
        self._longest_gap_s = 0.0
        self._underrun = False
        self.audio_s = 0.0

    def sent(self, audio_s: float) -> None:
        """Record that a block of `audio_s` seconds was just sent."""
        now = time.monotonic()
        if not self.audio_s:
            self._first_s = now
            self._playback.played_until_s = self._playback.played_until_s or now
        if self._playback.last_block_s is not None:
            self._longest_gap_s = max(self._longest_gap_s, now - self._playback.last_block_s)
        self._playback.last_block_s = now
        self._underrun |= now > self._playback.played_until_s
        self._playback.played_until_s = max(now, self._playback.played_until_s) + audio_s
        self.audio_s += audio_s

    def report(self) -> SegmentReport:
        return SegmentReport(
            first_of_request=self._playback.segments == 0,
            latency_s=self._first_s - self._arrived_s,
            longest_gap_s=self._longest_gap_s,
            compute_s=time.monotonic() - self._started_s,
            audio_s=self.audio_s,
            underrun=self._underrun,
        )
