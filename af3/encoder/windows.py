"""Cuts a clip into windows, and checks the windows of the `pcm` tensor."""

from __future__ import annotations

import numpy as np

from af3.encoder.interface import Window
from af3.errors import invalid
from af3.inputs.audio import WINDOW_SAMPLES, audio_token_count, split_windows
from af3.manifest import Limits


def clip_windows(pcm: np.ndarray) -> list[Window]:
    """Cut 16 kHz samples, [n], into windows; leaves out one too short for a token."""
    windows = [Window(samples, place) for place, samples in enumerate(split_windows(pcm))]
    return [window for window in windows if audio_token_count(len(window.samples))]


def windows_of(pcm: np.ndarray, lengths: np.ndarray, index: np.ndarray, limits: Limits) -> list[Window]:
    """Cut the rows of `pcm` [windows, samples] to their lengths; `index` has their indices in their clips.

    Raises RequestError for input that `preprocess` never sends but a client that bypasses it might.
    """
    if len(pcm) != len(lengths):
        raise invalid(f"pcm: {len(pcm)} windows for {len(lengths)} pcm_lengths; they must agree")
    if len(pcm) != len(index):
        raise invalid(f"pcm: {len(pcm)} windows for {len(index)} of window_index; they must agree")
    most = limits.max_windows_per_clip - 1
    if len(index) and not (index.min() >= 0 and index.max() <= most):
        raise invalid(f"window_index: {index.min()}…{index.max()}, must be 0…{most}")
    longest = min(pcm.shape[1], WINDOW_SAMPLES) if len(lengths) else 0
    if len(lengths) and not (lengths.min() > 0 and lengths.max() <= longest):
        raise invalid(f"pcm_lengths: {lengths.min()}…{lengths.max()}, must be 1…{longest}")
    if sum(audio_token_count(int(length)) for length in lengths) > limits.max_audio_tokens:
        raise invalid(f"pcm: more than {limits.max_audio_tokens} audio tokens")
    windows = [
        Window(row[:length], int(place)) for row, length, place in zip(pcm, lengths, index, strict=True)
    ]
    if not all(np.isfinite(window.samples).all() for window in windows):
        raise invalid("pcm: a sample is not a finite number")
    return windows
