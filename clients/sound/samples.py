"""Audio that is in memory as numbers, as a file the server reads."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import AudioFlamingoError

IEEE_FLOAT = 3  # WAVE_FORMAT_IEEE_FLOAT
SAMPLE_BYTES = 4
MOST_CHANNELS = 0xFFFF // SAMPLE_BYTES  # what a WAV header can say of a frame's bytes
MOST_BYTES = 0xFFFF_FF00
MOST_HZ = 0xFFFF_FFFF


@dataclass(frozen=True)
class Samples:
    """Audio in memory: `values` floats [n] or [n, channels] in -1…1, `hz` of them a second (a whole number)."""

    values: ArrayLike
    hz: float


def wav(samples: Samples, name: str) -> bytes:
    """`samples` as a 32-bit float WAV file, so that nothing is rounded beyond float32.

    `name` stands in errors (`audio[0]`). Raises AudioFlamingoError for integers, for more than two axes, and
    for a rate or a number of channels that a WAV file cannot say.
    """
    values = _floats(samples.values, name)
    channels = 1 if values.ndim == 1 else values.shape[1]
    frame_bytes = channels * SAMPLE_BYTES
    hz = _whole_hz(samples.hz, frame_bytes, name)
    data = np.ascontiguousarray(values, dtype="<f4").tobytes()
    if len(data) > MOST_BYTES:
        raise _refused(
            f"{name}: {len(data)} bytes of samples are more than the 4 GB of a WAV file; send less"
        )
    header = struct.pack("<HHIIHH", IEEE_FLOAT, channels, hz, hz * frame_bytes, frame_bytes, 8 * SAMPLE_BYTES)
    chunks = _chunk(b"fmt ", header) + _chunk(b"data", data)
    return _chunk(b"RIFF", b"WAVE" + chunks)


def _floats(values: ArrayLike, name: str) -> NDArray[np.floating[Any]]:
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        raise _refused(f"{name}: the samples are no array; give floats [n] or [n, channels]") from None
    if not np.issubdtype(array.dtype, np.floating):
        raise _refused(f"{name}: the samples are {array.dtype}, not floats in -1…1; divide int16 by 32768")
    if array.ndim not in (1, 2):
        raise _refused(f"{name}: the shape {array.shape} is neither [n] nor [n, channels]")
    if array.ndim == 2 and not 1 <= array.shape[1] <= MOST_CHANNELS:
        raise _refused(
            f"{name}: {array.shape[1]} channels in the shape {array.shape}, which is read as [n, channels];"
            f" a WAV file has 1 to {MOST_CHANNELS}"
        )
    return array


def _whole_hz(hz: float, frame_bytes: int, name: str) -> int:
    """The sample rate as a WAV file holds it, whichever type of number it came as."""
    try:
        whole = int(hz)
    except (TypeError, ValueError, OverflowError):  # no number; NaN; infinite
        raise _refused(f"{name}: hz is {hz!r}, not a sample rate such as 16000") from None
    if whole != hz or not 1 <= whole * frame_bytes <= MOST_HZ:
        raise _refused(f"{name}: hz is {hz!r}, not a whole sample rate above 0 such as 16000")
    return whole


def _refused(sentence: str) -> AudioFlamingoError:
    return AudioFlamingoError("INVALID_ARGUMENT", sentence)


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body
