"""Audio that is in memory as numbers, as a file the server reads."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.errors import AudioFlamingoError

IEEE_FLOAT = 3  # WAVE_FORMAT_IEEE_FLOAT
SAMPLE_BYTES = 4


@dataclass(frozen=True)
class Samples:
    """Audio in memory: `values` float [n] or [n, channels] in -1…1, `hz` of them a second."""

    values: NDArray[np.floating[Any]]
    hz: int


def wav(samples: Samples, name: str) -> bytes:
    """`samples` as a 32-bit float WAV file, so that nothing is rounded beyond float32.

    `name` stands in errors (`audio[0]`). Raises AudioFlamingoError for integers and for more than two axes.
    """
    values = samples.values
    if not np.issubdtype(values.dtype, np.floating):
        raise AudioFlamingoError(
            "INVALID_ARGUMENT",
            f"{name}: the samples are {values.dtype}, not floats in -1…1; divide int16 by 32768",
        )
    if values.ndim not in (1, 2):
        raise AudioFlamingoError(
            "INVALID_ARGUMENT", f"{name}: the shape {values.shape} is neither [n] nor [n, channels]"
        )
    channels = 1 if values.ndim == 1 else values.shape[1]
    data = np.ascontiguousarray(values, dtype="<f4").tobytes()
    frame_bytes = channels * SAMPLE_BYTES
    header = struct.pack(
        "<HHIIHH", IEEE_FLOAT, channels, samples.hz, samples.hz * frame_bytes, frame_bytes, 8 * SAMPLE_BYTES
    )
    chunks = _chunk(b"fmt ", header) + _chunk(b"data", data)
    return _chunk(b"RIFF", b"WAVE" + chunks)


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body
