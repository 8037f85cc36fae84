"""Log-mel features of one window, equal to Transformers' WhisperFeatureExtractor(feature_size=128)."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

SAMPLE_RATE = 16000
HOP = 160
WINDOW_S = 30
WINDOW_SAMPLES = WINDOW_S * SAMPLE_RATE
WINDOW_FRAMES = 3000
MEL_BINS = 128


@functools.cache
def _mel_filters() -> torch.Tensor:
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=201,
        num_mel_filters=MEL_BINS,
        min_frequency=0.0,
        max_frequency=8000.0,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters).float().T.contiguous()


def split_windows(pcm: np.ndarray) -> list[np.ndarray]:
    """Cut a clip into windows of 30 s; the last one is shorter and not padded."""
    return [pcm[i : i + WINDOW_SAMPLES] for i in range(0, len(pcm), WINDOW_SAMPLES)]


def encoder_frames(samples: int) -> int:
    """Valid encoder frames E of one window, 50 a second: ceil(ceil(samples / 160) / 2)."""
    return math.ceil(math.ceil(samples / HOP) / 2)


def token_count(samples: int) -> int:
    """Audio tokens of one window, 25 a second: floor(E / 2)."""
    return encoder_frames(samples) // 2


def log_mel(window: np.ndarray) -> torch.Tensor:
    """Log-mel features float32 [128, M] with M = min(2E + 2, 3000) and E = ceil(frames / 2).

    The features of a zero-padded 30 s window end in a constant floor. The encoder's convolution (width 3, stride 2)
    sees only two frames of it after the last valid frame, so the rest is left out.
    """
    fed = min(2 * encoder_frames(len(window)) + 2, WINDOW_FRAMES)
    # The last kept frame must see real zeros behind it: Transformers' STFT reflects only at 30 s.
    padded = np.zeros(min((fed + 3) * HOP, WINDOW_SAMPLES), np.float32)
    padded[: len(window)] = window
    spectrum = torch.stft(
        torch.from_numpy(padded), 400, HOP, window=torch.hann_window(400), return_complex=True
    )
    power = spectrum[:, :fed].abs() ** 2
    log_spec = (_mel_filters() @ power).clamp(min=1e-10).log10()
    log_spec = torch.maximum(log_spec, log_spec.max() - 8.0)
    return (log_spec + 4.0) / 4.0
