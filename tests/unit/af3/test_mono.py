"""Channels and rates → one clip at 16 kHz: the bits of Transformers, and the length that a model hears."""

import numpy as np
import pytest

from af3.errors import RequestError
from af3.inputs.audio import SAMPLE_RATE
from af3.inputs.mono import PADDING_S, Mono


def mixed(block: np.ndarray) -> np.ndarray:
    mono = Mono("audio[0]", SAMPLE_RATE, block.shape[1], 600, None)
    mono.add(block)
    return mono.finished()


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 64])
def test_the_mix_has_the_bits_of_a_mean_over_the_first_axis(channels: int) -> None:
    random = np.random.default_rng(channels)
    block = random.normal(0, 1, (4_000, channels)).astype(np.float32) * np.float32(10.0) ** random.integers(
        -40, 30, (4_000, channels)
    ).astype(np.float32)
    assert mixed(block).tobytes() == block.T.mean(axis=0).tobytes()


def half_a_second_more(seconds: float, declared: bool) -> np.ndarray:
    frames = int(seconds * SAMPLE_RATE)
    mono = Mono("audio[0]", SAMPLE_RATE, 1, 2, frames if declared else None)
    mono.add(np.ones((frames, 1), np.float32))
    return mono.finished()


def test_what_an_encoder_padded_behind_a_clip_of_full_length_is_cut_off() -> None:
    """ADTS and MP3 without a tag end with whole frames: ten minutes become 600.02 s."""
    assert len(half_a_second_more(2 + PADDING_S / 2, declared=False)) == 2 * SAMPLE_RATE


@pytest.mark.parametrize("declared", [True, False])
def test_a_clip_may_be_as_long_as_the_limit_to_the_last_sample(declared: bool) -> None:
    assert len(half_a_second_more(2, declared)) == 2 * SAMPLE_RATE


@pytest.mark.parametrize("rate_hz", [11_025, 22_050, 44_100])
def test_a_part_of_a_sample_at_16_khz_is_a_sample(rate_hz: int) -> None:
    """As in Transformers: librosa rounds the length up."""
    mono = Mono("audio[0]", rate_hz, 1, 600, None)
    mono.add(np.zeros((rate_hz + 1, 1), np.float32))
    assert len(mono.finished()) == -(-(rate_hz + 1) * SAMPLE_RATE // rate_hz)


@pytest.mark.parametrize(("seconds", "declared", "shown"), [(2.05, True, "2.050"), (2.5, False, "2.5")])
def test_a_longer_clip_is_refused(seconds: float, declared: bool, shown: str) -> None:
    with pytest.raises(RequestError, match=f"{shown} s is longer than the 2 s"):
        half_a_second_more(seconds, declared)
