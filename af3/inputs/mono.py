"""Converts blocks of samples of any rate and channel count to a mono 16 kHz clip, equal to Transformers'."""

from __future__ import annotations

import math

import numpy as np
import soxr

from af3.errors import invalid
from af3.inputs.audio import SAMPLE_RATE, clip_token_count

MAX_CHANNELS = 64
SOURCE_RATES_HZ = (4_000, 384_000)
# Padding that an encoder may append when no header counts the samples: two frames of AAC at 16 kHz.
PADDING_S = 0.2


class Mono:
    """Averages channels and resamples block by block, so memory is bounded by one block and the 16 kHz clip."""

    def __init__(self, name: str, rate_hz: int, channels: int, max_seconds: float, declared: int | None):
        """declared: the reliable number of frames; when None, encoder padding beyond `max_seconds` is allowed and cut
        off. Raises RequestError for an unsupported rate, channel count or length.
        """
        low, high = SOURCE_RATES_HZ
        if not low <= rate_hz <= high:
            raise invalid(f"{name}: a sample rate of {rate_hz} Hz is outside {low}–{high} Hz; resample it")
        if not 1 <= channels <= MAX_CHANNELS:
            raise invalid(f"{name}: {channels} channels, at most {MAX_CHANNELS} are mixed; mix it down first")
        self.frames = 0
        self._name = name
        self._rate_hz = rate_hz
        self._max_seconds = max_seconds
        self._allowed_s = max_seconds + (PADDING_S if declared is None else 0)
        self._blocks: list[np.ndarray] = []
        # Gives the same samples as one call of soxr.resample, whatever the block sizes.
        self._resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE, 1, dtype="float32", quality="soxr_hq")
        if declared is not None:
            self._refuse_too_long(declared)

    def add(self, block: np.ndarray) -> None:
        """Add a block, float32 [n, channels]."""
        mono = _mixed(block)
        finite = np.isfinite(mono)
        if not finite.all():
            raise invalid(
                f"{self._name}: sample {self.frames + int(np.argmin(finite))} is not a finite number;"
                " export the file again without NaN or inf"
            )
        self.frames += len(block)
        self._refuse_too_long(self.frames)
        self._blocks.append(mono if self._rate_hz == SAMPLE_RATE else self._resampler.resample_chunk(mono))

    def finished(self) -> np.ndarray:
        """Return all samples at 16 kHz, [n]. Raises RequestError when there are none or too few for a token."""
        if self.frames == 0:
            raise invalid(f"{self._name}: the file holds no samples; send a clip longer than 20 ms")
        if self._rate_hz != SAMPLE_RATE:
            self._blocks.append(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        samples = math.ceil(min(self.frames * SAMPLE_RATE / self._rate_hz, self._max_seconds * SAMPLE_RATE))
        pcm = self._blocks[0] if len(self._blocks) == 1 else np.concatenate(self._blocks)
        if len(pcm) < samples:
            pcm = np.pad(pcm, (0, samples - len(pcm)))
        pcm = pcm[:samples]
        if clip_token_count(pcm) == 0:
            raise invalid(
                f"{self._name}: {len(pcm) / SAMPLE_RATE * 1000:.0f} ms is too short to hear (more than 20 ms is"
                " needed); send a longer clip or leave it out"
            )
        return pcm

    @property
    def seconds(self) -> float:
        return self.frames / self._rate_hz

    def _refuse_too_long(self, frames: int) -> None:
        refuse_too_long(self._name, frames / self._rate_hz, self._max_seconds, self._allowed_s)


def refuse_too_long(name: str, seconds: float, max_seconds: float, allowed_s: float) -> None:
    """Raise RequestError for a clip beyond `allowed_s`; `max_seconds` is the limit that the client is told."""
    if seconds <= allowed_s:
        return
    shown = f"{seconds:.1f}" if seconds > max_seconds + 0.1 else f"{seconds:.3f}"
    raise invalid(
        f"{name}: {shown} s is longer than the {max_seconds:g} s that this model hears; split it or send fewer clips"
    )


def _mixed(block: np.ndarray) -> np.ndarray:
    """Mix [n, channels] to [n], bit-identical to the mean over axis 0 of [channels, n] that Transformers computes."""
    if block.shape[1] == 1:
        return block[:, 0].copy()
    if block.shape[1] == 2:  # sum and halve: the same result five times as fast
        mono = block[:, 0] + block[:, 1]
        mono *= np.float32(0.5)
        return mono
    mean: np.ndarray = block.T.mean(axis=0)
    return mean
