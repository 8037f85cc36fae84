"""Synthesises sounds and notes with numpy alone: float32 at 16 kHz with a peak of 1.

Each function draws its parameters (pitch, length, colour) from the generator, so no two bells are alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

SAMPLE_RATE = 16000

Rng: TypeAlias = np.random.Generator
Pcm: TypeAlias = np.ndarray


def normalised(pcm: Pcm) -> Pcm:
    """Scale a signal to a peak of 1 as float32; silence stays silence."""
    peak = np.abs(pcm).max(initial=0.0)
    return (pcm / peak if peak > 0 else pcm).astype(np.float32)


def trimmed(pcm: Pcm) -> Pcm:
    """Cut what is quieter than a hundredth from both ends of a signal with a peak of 1; some of the fading is left."""
    audible = np.flatnonzero(np.abs(pcm) > 0.01)
    return pcm[max(0, audible[0] - 320) : audible[-1] + 640]


def resample(pcm: Pcm, source_hz: int, target_hz: int) -> Pcm:
    """Resample by cutting or padding the spectrum; float32 [n * target / source].

    The signal is zero-padded to a multiple of 0.1 s, which makes both FFT lengths round and fast.
    """
    units = -(-len(pcm) * 10 // source_hz)
    length, target_length = units * source_hz // 10, units * target_hz // 10
    spectrum = np.fft.rfft(pcm, length)[: target_length // 2 + 1]
    return (np.fft.irfft(spectrum, target_length) * (target_length / length)).astype(np.float32)


def _time(seconds: float) -> np.ndarray:
    return np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _phase(hz: np.ndarray) -> np.ndarray:
    """The phase of an oscillator whose frequency follows `hz`."""
    return 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE


def _edges(pcm: Pcm, attack_s: float, release_s: float) -> Pcm:
    """Ramp both ends, so that the signal does not click."""
    attack, release = (max(2, min(len(pcm) // 2, int(s * SAMPLE_RATE))) for s in (attack_s, release_s))
    shaped = pcm.copy()
    shaped[:attack] *= np.linspace(0, 1, attack)
    shaped[-release:] *= np.linspace(1, 0, release)
    return shaped


def noise(rng: Rng, samples: int, low_hz: float = 20.0, high_hz: float = 8000.0, tilt: float = 0.0) -> Pcm:
    """Make noise between two frequencies; its amplitude falls as frequency^-tilt. Peak 1."""
    length = -(-samples // 800) * 800  # a length whose FFT is fast
    spectrum = np.fft.rfft(rng.standard_normal(length))
    hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    spectrum *= ((hz >= low_hz) & (hz <= high_hz)) * np.maximum(hz, 20.0) ** -tilt
    return normalised(np.fft.irfft(spectrum, length)[:samples])


def _repeated(hit: Callable[[], Pcm], count: int, period_s: float) -> Pcm:
    """Mix `count` hits, one every `period_s`, with overlapping tails."""
    hits = [hit() for _ in range(count)]
    starts = [int(i * period_s * SAMPLE_RATE) for i in range(count)]
    mix = np.zeros(max(start + len(pcm) for start, pcm in zip(starts, hits, strict=True)))
    for start, pcm in zip(starts, hits, strict=True):
        mix[start : start + len(pcm)] += pcm
    return mix


def beep(rng: Rng, hz: float | None = None) -> Pcm:
    """A plain tone of 0.12-0.25 s."""
    t = _time(rng.uniform(0.12, 0.25))
    return normalised(_edges(np.sin(2 * np.pi * (hz or rng.uniform(700, 1500)) * t), 0.01, 0.01))


def _bell(rng: Rng) -> Pcm:
    t = _time(rng.uniform(0.9, 1.5))
    hz, decay = rng.uniform(350, 800), rng.uniform(2.5, 5)
    partials = (0.5, 1.0), (1.19, 0.8), (1.5, 0.6), (2.0, 0.9), (2.74, 0.7), (3.76, 0.5), (5.4, 0.3)
    return sum(
        a * np.sin(2 * np.pi * hz * r * t + rng.uniform(0, 6)) * np.exp(-t * decay * (0.6 + 0.4 * r))
        for r, a in partials
    )


def _siren(rng: Rng) -> Pcm:
    t = _time(rng.uniform(1.2, 2.2))
    low, high, sweeps = rng.uniform(450, 650), rng.uniform(1000, 1500), rng.uniform(0.7, 1.3)
    hz = low + (high - low) * (0.5 - 0.5 * np.cos(2 * np.pi * sweeps * t))
    return np.sin(_phase(hz)) + 0.3 * np.sin(2 * _phase(hz)) + 0.15 * np.sin(3 * _phase(hz))


def _bird(rng: Rng) -> Pcm:
    low, high, length_s = rng.uniform(2500, 3500), rng.uniform(4200, 6000), rng.uniform(0.06, 0.12)

    def chirp() -> Pcm:
        t = _time(length_s)
        return _edges(np.sin(_phase(np.linspace(low, high, len(t)))), 0.01, 0.02)

    return _repeated(chirp, int(rng.integers(4, 8)), length_s + rng.uniform(0.04, 0.12))


def _clock(rng: Rng) -> Pcm:
    hz = rng.uniform(2000, 3200)

    def tick() -> Pcm:
        t = _time(0.03)
        return np.sin(2 * np.pi * hz * rng.uniform(0.97, 1.03) * t) * np.exp(-t * 180)

    return _repeated(tick, int(rng.integers(4, 7)), rng.uniform(0.25, 0.45))


def _knock(rng: Rng) -> Pcm:
    hz = rng.uniform(120, 260)

    def thud() -> Pcm:
        t = _time(0.12)
        wood = 0.25 * noise(rng, len(t), 200, 1200) * np.exp(-t * 90)
        return np.sin(2 * np.pi * hz * t) * np.exp(-t * 45) + wood

    return _repeated(thud, int(rng.integers(2, 5)), rng.uniform(0.18, 0.3))


def _rain(rng: Rng) -> Pcm:
    samples = int(rng.uniform(1.2, 2.2) * SAMPLE_RATE)
    drops = np.where(rng.random(samples) < 0.003, rng.standard_normal(samples), 0)
    drops = np.convolve(drops, np.exp(-np.arange(80) / 12.0), "same")
    return _edges(0.5 * noise(rng, samples, 1000, 8000, 0.3) + 0.5 * normalised(drops), 0.1, 0.1)


def _engine(rng: Rng) -> Pcm:
    t = _time(rng.uniform(1.2, 2.2))
    hz = rng.uniform(38, 75) * (1 + 0.03 * np.sin(2 * np.pi * rng.uniform(1, 3) * t))
    strokes = sum(np.sin(k * _phase(hz)) / k for k in range(1, 14))
    rumble = noise(rng, len(t), 40, 900, 0.7) * (0.6 + 0.4 * np.sin(_phase(hz)))
    return _edges(strokes + 0.6 * rumble, 0.08, 0.08)


def _telephone(rng: Rng) -> Pcm:
    shift = rng.uniform(0.92, 1.08)

    def ring() -> Pcm:
        t = _time(0.55)
        warble = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 20 * t))
        tone = np.sin(2 * np.pi * 1200 * shift * t) + np.sin(2 * np.pi * 1500 * shift * t)
        return _edges(tone * warble, 0.01, 0.02)

    return _repeated(ring, 2, rng.uniform(0.75, 0.9))


def _horn(rng: Rng) -> Pcm:
    t = _time(rng.uniform(0.5, 0.9))
    hz = rng.uniform(330, 440)
    tone = sum(np.sin(2 * np.pi * hz * r * k * t) / k for r in (1.0, 1.26) for k in range(1, 9))
    return _edges(tone, 0.03, 0.05)


def _thunder(rng: Rng) -> Pcm:
    t = _time(rng.uniform(1.5, 2.3))
    rolls = np.exp(-t * 2.2) + 0.6 * np.exp(-(((t - rng.uniform(0.5, 0.9)) / 0.15) ** 2))
    return _edges(noise(rng, len(t), 25, 400, 1.0) * rolls, 0.02, 0.15)


def _whistle(rng: Rng) -> Pcm:
    t = _time(rng.uniform(0.6, 1.1))
    trill = 1 + 0.04 * np.sign(np.sin(2 * np.pi * rng.uniform(28, 42) * t))
    tone = np.sin(_phase(rng.uniform(2300, 2900) * trill)) + 0.15 * noise(rng, len(t), 1800, 3500)
    return _edges(tone, 0.03, 0.04)


SOUNDS: dict[str, Callable[[Rng], Pcm]] = {
    "bell": _bell,
    "siren": _siren,
    "bird": _bird,
    "clock": _clock,
    "knock": _knock,
    "rain": _rain,
    "engine": _engine,
    "telephone": _telephone,
    "horn": _horn,
    "thunder": _thunder,
    "whistle": _whistle,
}


def sound(rng: Rng, name: str) -> Pcm:
    return normalised(SOUNDS[name](rng))


def _piano(rng: Rng, hz: float, t: np.ndarray) -> Pcm:
    partials = range(1, min(9, int(7500 / hz) + 1))
    return sum(
        np.sin(2 * np.pi * hz * k * (1 + 0.0004 * k * k) * t) * np.exp(-t * (2.5 + k)) / k for k in partials
    )


def _flute(rng: Rng, hz: float, t: np.ndarray) -> Pcm:
    phase = _phase(hz * (1 + 0.006 * np.sin(2 * np.pi * 5 * t)))
    breath = 0.06 * noise(rng, len(t), 800, 5000)
    return _edges(np.sin(phase) + 0.12 * np.sin(2 * phase) + 0.04 * np.sin(3 * phase) + breath, 0.06, 0.06)


def _organ(rng: Rng, hz: float, t: np.ndarray) -> Pcm:
    drawbars = (0.5, 0.5), (1, 1.0), (2, 0.8), (3, 0.4), (4, 0.6), (6, 0.25), (8, 0.4)
    return _edges(sum(a * np.sin(2 * np.pi * hz * r * t) for r, a in drawbars if hz * r < 7500), 0.01, 0.03)


def _guitar(rng: Rng, hz: float, t: np.ndarray) -> Pcm:
    """Karplus and Strong's plucked string: each partial decays as under their averaging filter."""
    partials = range(1, min(24, int(7000 / hz) + 1))
    pluck = rng.uniform(0.15, 0.3)
    return sum(
        np.sin(np.pi * k * pluck) / k * np.sin(2 * np.pi * hz * k * t) * np.exp(-t * (1.2 + 0.12 * k * k))
        for k in partials
    )


def _trumpet(rng: Rng, hz: float, t: np.ndarray) -> Pcm:
    partials = range(1, min(14, int(7000 / hz) + 1))
    bright = np.minimum(1, t / 0.08)
    tone = sum(np.sin(2 * np.pi * hz * k * t) * bright ** (0.5 * k) / k**0.6 for k in partials)
    return _edges(tone, 0.02, 0.05)


def _violin(rng: Rng, hz: float, t: np.ndarray) -> Pcm:
    phase = _phase(hz * (1 + 0.012 * np.sin(2 * np.pi * 6 * t + rng.uniform(0, 6))))
    partials = range(1, min(20, int(7000 / hz) + 1))
    return _edges(
        sum(np.sin(k * phase) / k for k in partials) + 0.03 * noise(rng, len(t), 2000, 7000), 0.09, 0.07
    )


INSTRUMENTS: dict[str, Callable[[Rng, float, np.ndarray], Pcm]] = {
    "piano": _piano,
    "flute": _flute,
    "organ": _organ,
    "guitar": _guitar,
    "trumpet": _trumpet,
    "violin": _violin,
}


def note(rng: Rng, instrument: str, midi: float, seconds: float) -> Pcm:
    """One note; midi 69 is A4, 440 Hz."""
    hz = 440.0 * 2 ** ((midi - 69) / 12)
    return normalised(_edges(INSTRUMENTS[instrument](rng, hz, _time(seconds)), 0.004, 0.02))
