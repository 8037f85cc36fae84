"""RoTE: between tower and adaptor, Music Flamingo and Audio Flamingo Next rotate each embedding by its time.

Uses the constants of Transformers' `MusicFlamingoRotaryEmbedding`. Token t of window w, at time
s = w · 30 s + t · 40 ms, has 2m angles, half for its window and half for its place in the window:

    a[w, t, j] = -2π s · (w / θ) · inv[j]      j = 0 … m-1
    a[w, t, m + j] = -2π s · (2π t / θ) · inv[j]

Pair i of the first 4m dimensions is rotated by a[i]. Angles reach 30 000 rad in half an hour, so they are computed in
float32 in Transformers' order of operations: other roundings would give other rotations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers.models.musicflamingo.modeling_musicflamingo import MusicFlamingoRotaryEmbedding

TOKENS_OF_A_WINDOW = 750
MEL_FRAMES_OF_A_TOKEN = 4


class TimeRotation(nn.Module):
    """Computes the angles, for ONNX Runtime: float32 [W, T, D] and window_index int64 [W] → [W, T, D]."""

    inverse: Tensor  # [m]
    turns: Tensor  # [T, m]: angle per second of token t, for its place in the window

    def __init__(self, source: MusicFlamingoRotaryEmbedding) -> None:
        super().__init__()
        self.token_s = source.config.audio_frame_step * MEL_FRAMES_OF_A_TOKEN
        self.theta = float(source.max_seq_len_cached)
        self.register_buffer("inverse", source.inv_freq.clone())
        self.register_buffer("turns", source.position_angles[:TOKENS_OF_A_WINDOW, ::2].clone())

    def forward(self, hidden: Tensor, window_index: Tensor) -> Tensor:
        angles = self.angles(window_index, hidden.shape[1])
        return turned(hidden, angles.cos(), angles.sin())

    def angles(self, window_index: Tensor, tokens: int) -> Tensor:
        """float32 [W, tokens, 2m]."""
        starts = (window_index * TOKENS_OF_A_WINDOW)[:, None].float() * self.token_s
        seconds = starts + torch.arange(tokens).float() * self.token_s
        by_window = (window_index.float() / self.theta)[:, None] * self.inverse
        by_window, by_time = torch.broadcast_tensors(by_window[:, None], self.turns[:tokens][None])
        return torch.cat([by_window, by_time], -1) * (-seconds * 2 * math.pi)[:, :, None]


class TabulatedRotation(nn.Module):
    """Looks the angles up, for TensorRT: in half precision the cosine of a large angle is meaningless.

    cosines, sines: float32 [windows, 750, 2m], 46 MB each at full size for half an hour.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, source: MusicFlamingoRotaryEmbedding, windows: int) -> None:
        super().__init__()
        angles = TimeRotation(source).angles(torch.arange(windows), TOKENS_OF_A_WINDOW)
        self.register_buffer("cosines", angles.cos())
        self.register_buffer("sines", angles.sin())

    def forward(self, hidden: Tensor, window_index: Tensor) -> Tensor:
        tokens = hidden.shape[1]
        return turned(hidden, self.cosines[window_index][:, :tokens], self.sines[window_index][:, :tokens])


def turned(hidden: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate pairs of neighbouring dimensions of [W, T, D] by angles [W, T, 2m]; other dimensions stay."""
    windows, tokens, half = cosines.shape
    x, y = hidden[:, :, : 2 * half].reshape(windows, tokens, half, 2).unbind(-1)
    pairs = torch.stack([x * cosines - y * sines, y * cosines + x * sines], -1)
    return torch.cat([pairs.reshape(windows, tokens, 2 * half), hidden[:, :, 2 * half :]], -1)
