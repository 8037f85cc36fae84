"""What an independent decoder hears: ffmpeg started plainly on a file, its samples mixed and resampled here."""

import subprocess
from pathlib import Path

import numpy as np
import soxr

from af3.inputs import ffmpeg


def heard(path: Path, decoder: str | None = None) -> np.ndarray:
    """float32 mono at 16 kHz, [n]."""
    given = ["-c:a", decoder, "-i", str(path)] if decoder else ["-i", str(path)]
    command = [
        str(ffmpeg.program()),
        "-v",
        "error",
        *given,
        "-vn",
        "-c:a",
        "pcm_f32le",
        "-f",
        "caf",
        "pipe:1",
    ]
    written = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    rate = int(np.frombuffer(written, ">f8", 1, 20)[0])
    channels = int.from_bytes(written[44:48], "big")
    start = written.index(b"data", 52) + 16
    samples = np.frombuffer(written[start:], "<f4")
    mono = samples[: len(samples) // channels * channels].reshape(-1, channels).mean(axis=1)
    return soxr.resample(mono, rate, 16_000, quality="soxr_hq")


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation over the samples that both have."""
    both = min(len(first), len(second))
    return float(np.corrcoef(first[:both], second[:both])[0, 1])
