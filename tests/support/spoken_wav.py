"""WAV files for Chromium's fake microphone: silence and clips in turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr

HZ = 48000
SAMPLES = Path(__file__).parents[2] / "checkpoints" / "samples"


def write(path: Path, *parts: str | float) -> Path:
    """Seconds of silence, and names of sample clips."""
    pieces = [np.zeros(int(part * HZ)) if isinstance(part, (int, float)) else _clip(part) for part in parts]
    soundfile.write(path, np.concatenate(pieces), HZ, subtype="PCM_16")
    return path


def _clip(name: str) -> np.ndarray:
    samples, hz = soundfile.read(SAMPLES / name, always_2d=True)
    return soxr.resample(samples.mean(axis=1), hz, HZ)
