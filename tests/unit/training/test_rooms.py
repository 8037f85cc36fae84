"""Rooms, microphones and noise change a signal as they say, the same way for the same seed."""

import numpy as np
import pytest

from training import rooms


def tone(samples: int = 8000) -> np.ndarray:
    return np.sin(2 * np.pi * 440 * np.arange(samples) / 16000).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 300, 1599, 8000, 40_001])
def test_a_disturbed_signal_is_finite_peaks_at_one_and_depends_on_the_seed(samples: int) -> None:
    for seed in range(20):
        first, again = (rooms.disturbed(np.random.default_rng(seed), tone(samples)) for _ in range(2))
        assert np.array_equal(first, again)
        assert np.isfinite(first).all()
        assert first.dtype == np.float32
        assert len(first) >= samples
        assert np.abs(first).max() == pytest.approx(1, abs=1e-3) or samples == 1
    assert len({rooms.disturbed(np.random.default_rng(seed), tone()).tobytes() for seed in range(20)}) > 10


@pytest.mark.parametrize("ratio_db", [5, 15, 30])
def test_noise_has_the_power_that_is_asked_for(ratio_db: float) -> None:
    quiet_half = np.concatenate([tone(16000), np.zeros(16000, np.float32)])
    added = rooms.noisy(np.random.default_rng(0), quiet_half, ratio_db) - quiet_half
    found = 20 * np.log10(np.sqrt(0.5) / np.sqrt(np.square(added).mean()))
    assert found == pytest.approx(ratio_db, abs=0.5)


def test_a_band_keeps_what_is_in_it_and_nothing_else() -> None:
    low, high = tone(16000), np.sin(2 * np.pi * 6000 * np.arange(16000) / 16000).astype(np.float32)
    heard = rooms._band(low + high, 300, 3400)
    assert np.abs(heard - low)[800:-800].max() < 0.02


def test_another_throat_is_up_to_a_tenth_higher_or_lower() -> None:
    def pitch(seed: int) -> float:
        heard = rooms.another_throat(np.random.default_rng(seed), tone(16000))[:16000]
        return float(np.abs(np.fft.rfft(heard)).argmax())

    pitches = [pitch(seed) for seed in range(60)]
    assert 395 < min(pitches) < 420
    assert 460 < max(pitches) < 490
