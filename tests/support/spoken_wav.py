"""WAV files for Chromium's fake microphone: silence and clips in turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr

HZ = 48000
SAMPLES = Path(__file__).parents[2] / "checkpoints" / "samples"


Part = str | float | np.ndarray


def write(path: Path, *parts: Part) -> Path:
    """Seconds of silence, names of sample clips, samples at `HZ`."""
    soundfile.write(path, np.concatenate([_samples(part) for part in parts]), HZ, subtype="PCM_16")
    return path


def _samples(part: Part) -> np.ndarray:
    if isinstance(part, np.ndarray):
        return part
    return _clip(part) if isinstance(part, str) else np.zeros(int(part * HZ))


def _clip(name: str) -> np.ndarray:
    samples, hz = soundfile.read(SAMPLES / name, always_2d=True)
    return soxr.resample(samples.mean(axis=1), hz, HZ)
