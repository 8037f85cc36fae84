"""What lies between a mouth and a file: rooms, microphones, telephones, noise. Signals are float32 [n] at 16 kHz."""

from __future__ import annotations

import numpy as np

from training.signals import SAMPLE_RATE, Pcm, Rng, noise, normalised, resample

LOUDEST_NOISE_DB, FAINTEST_NOISE_DB = 6, 35  # speech over noise


def disturbed(rng: Rng, pcm: Pcm) -> Pcm:
    """Pass a signal through a few of the disturbances below, each with its own chance."""
    if rng.random() < 0.3:
        pcm = _in_a_room(rng, pcm)
    if rng.random() < 0.5:
        pcm = _coloured(rng, pcm)
    band = rng.random()
    if band < 0.12:
        pcm = _band(pcm, rng.uniform(200, 400), rng.uniform(3000, 3600))  # a telephone
    elif band < 0.25:
        pcm = _band(pcm, 0, rng.uniform(4000, 7500))  # a codec of few bits
    if rng.random() < 0.1:
        pcm = (
            np.clip(pcm, -1, rng.uniform(0.3, 0.8))
            if rng.random() < 0.5
            else np.tanh(rng.uniform(1, 4) * pcm)
        )
    if rng.random() < 0.65:
        pcm = noisy(rng, pcm, rng.uniform(LOUDEST_NOISE_DB, FAINTEST_NOISE_DB))
    return normalised(pcm)


def another_throat(rng: Rng, pcm: Pcm) -> Pcm:
    """Play a voice up to a tenth slower or faster, which moves its pitch and its formants too."""
    return normalised(resample(pcm, 10 * int(rng.integers(1450, 1770)), SAMPLE_RATE))


def noisy(rng: Rng, pcm: Pcm, ratio_db: float) -> Pcm:
    """Add noise of a random colour; `ratio_db` is the power of the signal where it sounds over that of the noise."""
    hiss = noise(rng, len(pcm), tilt=rng.uniform(0, 1.0))
    return pcm + hiss * np.float32(loudness(pcm) / loudness(hiss) * 10 ** (-ratio_db / 20))


def loudness(pcm: Pcm) -> float:
    """Root mean square over the 20 ms pieces that are not far quieter than the loudest of them."""
    pieces = (
        np.square(pcm[: len(pcm) // 320 * 320].reshape(-1, 320)).mean(1) if len(pcm) >= 320 else np.ones(1)
    )
    return float(np.sqrt(pieces[pieces >= pieces.max() / 100].mean())) + 1e-6


def _in_a_room(rng: Rng, pcm: Pcm) -> Pcm:
    """Add decaying echoes: up to 0.6 s until they are 60 dB fainter."""
    seconds = rng.uniform(0.12, 0.6)
    t = np.arange(int(0.6 * seconds * SAMPLE_RATE)) / SAMPLE_RATE
    echoes = rng.standard_normal(len(t)) * 10 ** (-3 * t / seconds)
    echoes[: int(rng.uniform(0.002, 0.015) * SAMPLE_RATE)] = 0
    echoes *= 10 ** (-rng.uniform(0, 14) / 20) / np.sqrt(np.square(echoes).sum() + 1e-9)
    echoes[0] = 1
    length = len(pcm) + len(t)
    size = -(-length // 1600) * 1600
    return np.fft.irfft(np.fft.rfft(pcm, size) * np.fft.rfft(echoes, size), size)[:length].astype(np.float32)


def _coloured(rng: Rng, pcm: Pcm) -> Pcm:
    """Raise and lower bands by up to 10 dB, smoothly, as a microphone does."""
    size = -(-len(pcm) // 1600) * 1600
    spectrum = np.fft.rfft(pcm, size)
    bands = np.linspace(0, 1, len(spectrum)) ** 0.5
    gains = np.interp(bands, np.linspace(0, 1, 8), rng.uniform(-10, 10, 8))
    return np.fft.irfft(spectrum * 10 ** (gains / 20), size)[: len(pcm)].astype(np.float32)


def _band(pcm: Pcm, low_hz: float, high_hz: float) -> Pcm:
    size = -(-len(pcm) // 1600) * 1600
    spectrum = np.fft.rfft(pcm, size)
    hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    edges = np.clip((hz - low_hz) / 50 + 1, 0, 1) * np.clip((high_hz - hz) / 200 + 1, 0, 1)
    return np.fft.irfft(spectrum * edges, size)[: len(pcm)].astype(np.float32)
