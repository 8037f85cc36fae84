"""The rows of the `pcm` tensor, checked and cut to their lengths."""

from __future__ import annotations

import numpy as np

from af3.errors import invalid
from af3.inputs.audio import WINDOW_SAMPLES, audio_token_count


def windows_of(pcm: np.ndarray, lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """The rows of `pcm` [windows, samples], each cut to its length.

    Raises RequestError for what `preprocess` never sends, and a client that gets here past it might.
    """
    if len(pcm) != len(lengths):
        raise invalid(f"pcm: {len(pcm)} windows for {len(lengths)} pcm_lengths; they must agree")
    longest = min(pcm.shape[1], WINDOW_SAMPLES) if len(lengths) else 0
    if len(lengths) and not (lengths.min() > 0 and lengths.max() <= longest):
        raise invalid(f"pcm_lengths: {lengths.min()}…{lengths.max()}, must be 1…{longest}")
    if sum(audio_token_count(int(length)) for length in lengths) > max_tokens:
        raise invalid(f"pcm: more than {max_tokens} audio tokens")
    windows = [row[:length] for row, length in zip(pcm, lengths, strict=True)]
    if not all(np.isfinite(window).all() for window in windows):
        raise invalid("pcm: a sample is not a finite number")
    return windows
