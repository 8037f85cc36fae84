"""The encoder that a config asks for by its `provider`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from af3.encoder.device_array import DeviceArray
from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.tensorrt_encoder import TensorRTEncoder
from af3.errors import invalid
from af3.inputs.audio import WINDOW_SAMPLES, audio_token_count

TENSORRT = "TensorRT"

# Of one window, [tokens, hidden_size]: in this process's memory, or where the encoder runs.
Embeddings: TypeAlias = np.ndarray | DeviceArray


class Encoder(Protocol):
    def encode(self, windows: Sequence[np.ndarray]) -> Sequence[Any]:
        """Windows of float32 16 kHz samples, [≤ 480 000] each → the embeddings of each."""
        ...

    def join(self, embeddings: Sequence[Any]) -> np.ndarray | DeviceArray:
        """What `encode` gave, one after the other: a prompt table [1, tokens, hidden_size]."""
        ...


def load_encoder(folder: Path, provider: str, threads: int) -> Encoder:
    """Load from `engines/<target>/audio_encoder/`.

    provider: TensorRT, or an execution provider of ONNX Runtime: CPUExecutionProvider, or
    CUDAExecutionProvider for a GPU without TensorRT (with the package onnxruntime-gpu). threads: of ONNX
    Runtime, 0 for every core.
    """
    if provider == TENSORRT:
        return TensorRTEncoder.load(folder)
    return AudioEncoder.load(folder, provider, threads)


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
