"""Speech at 24 kHz, block by block: what OpenAI's clients take PCM without a header for."""

from __future__ import annotations

from typing import Any

import numpy as np

PCM_HZ = 24_000


class PcmRate:
    """int16, little endian, one channel, of one rate throughout → the same at 24 kHz."""

    def __init__(self) -> None:
        self._stream: Any = None

    def push(self, pcm: bytes, hz: int) -> bytes:
        if hz == PCM_HZ:
            return pcm
        if self._stream is None:
            import soxr  # not before somebody wants it: the launcher imports the door

            self._stream = soxr.ResampleStream(hz, PCM_HZ, 1, dtype="int16")
        return self._resampled(np.frombuffer(pcm, "<i2"), last=False)

    def finish(self) -> bytes:
        return b"" if self._stream is None else self._resampled(np.zeros(0, np.int16), last=True)

    def _resampled(self, samples: np.ndarray, last: bool) -> bytes:
        made: bytes = self._stream.resample_chunk(samples, last=last).astype("<i2").tobytes()
        return made
