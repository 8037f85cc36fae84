"""Counts windows, mel frames and audio tokens of mono 16 kHz samples as Transformers' AF3 processor does."""

from __future__ import annotations

import numpy as np

SAMPLE_RATE = 16_000
HOP = 160  # samples of one mel frame (10 ms)
WINDOW_SAMPLES = 30 * SAMPLE_RATE
WINDOW_FRAMES = WINDOW_SAMPLES // HOP


def split_windows(pcm: np.ndarray) -> list[np.ndarray]:
    """Cut a clip [n] into windows of 30 s (views of 480 000 samples); only the last is shorter."""
    return [pcm[start : start + WINDOW_SAMPLES] for start in range(0, len(pcm), WINDOW_SAMPLES)]


def mel_frames(samples: int) -> int:
    """Valid mel frames of one window of `samples`: ceil(samples / 160), the mask of WhisperFeatureExtractor."""
    return -(-samples // HOP)


def encoder_frames(samples: int) -> int:
    """Valid encoder frames of one window: the stride-2 convolution halves the mel frames."""
    return -(-mel_frames(samples) // 2)


def audio_token_count(samples: int) -> int:
    """Audio tokens of one window of `samples` at 16 kHz (AF3: 25 per second, whole frames only).

    frames = ceil(samples / 160); conv stride 2, pool stride 2 → floor(ceil(frames / 2) / 2).
    Same as `AudioFlamingo3Processor._get_audio_token_length` (Transformers).
    """
    return encoder_frames(samples) // 2


def clip_token_count(pcm: np.ndarray) -> int:
    """Audio tokens of a whole clip, [n]: the sum over its windows."""
    return sum(audio_token_count(len(window)) for window in split_windows(pcm))


def fed_frames(samples: int) -> int:
    """Mel frames that one window must be padded to so that all its tokens are exact.

    Encoder frame E-1 sees mel frames up to 2E; one more keeps the log-mel maximum and makes the count even. Later
    frames would be masked, so padding to 30 s is not needed.
    """
    return min(2 * encoder_frames(samples) + 2, WINDOW_FRAMES)
