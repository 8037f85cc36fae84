"""The WAV that programs write most, 16-bit PCM behind a plain header, read without any decoder.

It is the one kind of file that is read inside the server. 44 bytes at fixed places are compared with what they must
be, one LIST chunk is stepped over, and the rest is samples, as many as there are bytes: nothing is allocated by a
number that the file states, no native parser sees the file, and the time is that of one pass over its bytes. All else,
a size that is not exact included, goes to the decoder process (`af3.inputs.clip_decoder`). A short clip is spared two
changes of process and three copies.
"""

from __future__ import annotations

import struct

import numpy as np

from af3.inputs.mono import Mono

PCM = 1
CHANNELS = (1, 2)
FIRST_CHUNK = 36  # behind RIFF, its size, WAVE and a fmt chunk of 16 bytes
LONGEST_BYTES = 8 << 20  # longer ones cost the other process nothing that is noticed
BLOCK_FRAMES = 1 << 17


def read(data: bytes, name: str, max_seconds: float) -> np.ndarray | None:
    """float32 mono samples at 16 kHz, [n], the same bits as by libsndfile; None for any other file.

    Raises RequestError for a clip that is too long or too short, or of a rate that is not served.
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
    """The rate in Hz and int16 [n, channels]."""
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
