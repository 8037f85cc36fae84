"""Audio files for tests, made on the spot from a seed: tones that glide and fade over noise."""

import io
from pathlib import Path

import numpy as np
import soundfile


def sound(seconds: float, rate: int = 16_000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """float64 [n, channels] below full scale, different for every seed."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    columns = []
    for _ in range(channels):
        glide = random.uniform(100, 800) * (1 + 0.5 * np.sin(2 * np.pi * random.uniform(0.2, 2) * time))
        tone = np.sin(2 * np.pi * np.cumsum(glide) / rate) * np.sin(2 * np.pi * random.uniform(0.3, 3) * time)
        columns.append(0.3 * tone + 0.02 * random.standard_normal(len(time)))
    return np.stack(columns, axis=1)


def file_bytes(
    samples: np.ndarray, rate: int = 16_000, kind: str = "WAV", subtype: str | None = None
) -> bytes:
    """The samples as a whole file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def clip(seconds: float, seed: int = 0) -> bytes:
    """A 16 kHz mono WAV file."""
    return file_bytes(sound(seconds, seed=seed))


def saved(folder: Path, data: bytes, name: str) -> Path:
    """`data` as a file, for those that read paths only (Transformers)."""
    path = folder / name
    path.write_bytes(data)
    return path
