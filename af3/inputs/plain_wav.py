"""Reads the most common WAV, 16-bit PCM with a plain header, without a decoder.

It is the only kind of file that is read inside the server's process. 44 bytes at fixed offsets must have the expected
values, one LIST chunk is skipped, and the rest are samples. No allocation depends on a number in the file, no native
parser sees it, and the time is one pass over its bytes. Every other file, also one with an inexact size, goes to the
decoder process (`af3.inputs.clip_decoder`). A short clip saves two process switches and three copies.
"""

from __future__ import annotations

import struct

import numpy as np

from af3.inputs.mono import Mono

PCM = 1
CHANNELS = (1, 2)
FIRST_CHUNK = 36  # offset after RIFF, its size, WAVE and a fmt chunk of 16 bytes
LONGEST_BYTES = 8 << 20  # for larger files the cost of the other process does not matter
BLOCK_FRAMES = 1 << 17


def read(data: bytes, name: str, max_seconds: float) -> np.ndarray | None:
    """Return float32 mono samples at 16 kHz, [n], bit-identical to libsndfile's; None for any other file.

    Raises RequestError for a clip that is too long or too short, or has an unsupported rate.
    """
    found = _samples(data)
    if found is None:
        return None
    rate_hz, frames = found
    mono = Mono(name, rate_hz, frames.shape[1], max_seconds, declared=len(frames))
    for start in range(0, len(frames), BLOCK_FRAMES):
        mono.add(frames[start : start + BLOCK_FRAMES].astype(np.float32) / np.float32(1 << 15))
    return mono.finished()


def _samples(data: bytes) -> tuple[int, np.ndarray] | None:
    """Return the rate in Hz and int16 [n, channels]."""
    if not FIRST_CHUNK + 8 < len(data) <= LONGEST_BYTES or data[:4] != b"RIFF" or data[8:16] != b"WAVEfmt ":
        return None
    size, tag, channels, rate_hz, bytes_per_s, frame_bytes, bits = struct.unpack_from("<IHHIIHH", data, 16)
    plain = size == 16 and tag == PCM and bits == 16 and channels in CHANNELS
    if not plain or frame_bytes != 2 * channels or bytes_per_s != rate_hz * frame_bytes:
        return None
    at = FIRST_CHUNK
    chunk, size = struct.unpack_from("<4sI", data, at)
    if chunk == b"LIST" and size < len(data) - at - 16:
        at += 8 + size + (size & 1)
        chunk, size = struct.unpack_from("<4sI", data, at)
    riff_ends = 8 + int.from_bytes(data[4:8], "little")
    if chunk != b"data" or at + 8 + size != len(data) or riff_ends != len(data) or size % frame_bytes:
        return None
    return rate_hz, np.frombuffer(data, "<i2", offset=at + 8).reshape(-1, channels)
