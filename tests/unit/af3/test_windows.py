"""Raw tensors of audio_encoder: what preprocess never sends is refused by cause."""

import numpy as np
import pytest

from af3.encoder.windows import clip_windows, windows_of
from af3.errors import RequestError
from af3.inputs.audio import WINDOW_SAMPLES
from af3.manifest import Limits

LIMITS = Limits(
    max_windows_per_clip=3,
    max_audio_tokens=100,
    max_text_tokens=100,
    max_output_tokens=10,
    max_sequence_tokens=200,
    max_batch_size=1,
)


def tensors(
    windows: int, samples: int, lengths: list[int], places: list[int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    index = [0] * len(lengths) if places is None else places
    return np.zeros((windows, samples), np.float32), np.array(lengths, np.int32), np.array(index, np.int32)


def test_rows_are_cut_to_their_lengths() -> None:
    windows = windows_of(*tensors(2, 1_000, [1_000, 400], [2, 1]), LIMITS)
    assert [(len(window.samples), window.place) for window in windows] == [(1_000, 2), (400, 1)]


def test_no_windows_are_no_audio() -> None:
    assert windows_of(*tensors(0, 0, []), LIMITS) == []


@pytest.mark.parametrize(
    ("windows", "samples", "lengths", "cause"),
    [
        (2, 1_000, [1_000], "2 windows for 1 pcm_lengths"),
        (1, 1_000, [1_001], "must be 1…1000"),
        (1, 1_000, [0], "must be 1…1000"),
        (1, 1_000, [-5], "must be 1…1000"),
        (1, WINDOW_SAMPLES + 1, [WINDOW_SAMPLES + 1], f"must be 1…{WINDOW_SAMPLES}"),
        (2, 40_000, [40_000, 40_000], "more than 100 audio tokens"),
    ],
)
def test_what_would_harm_the_encoder_is_refused(
    windows: int, samples: int, lengths: list[int], cause: str
) -> None:
    with pytest.raises(RequestError, match=cause):
        windows_of(*tensors(windows, samples, lengths), LIMITS)


def test_a_sample_that_is_no_number_is_refused() -> None:
    pcm, lengths, index = tensors(1, 1_000, [1_000])
    pcm[0, 7] = np.nan
    with pytest.raises(RequestError, match="not a finite number"):
        windows_of(pcm, lengths, index, LIMITS)


@pytest.mark.parametrize(
    ("places", "cause"),
    [([0], "2 windows for 1 of window_index"), ([0, 3], "must be 0…2"), ([-1, 0], "must be 0…2")],
)
def test_a_place_that_no_clip_has_is_refused(places: list[int], cause: str) -> None:
    with pytest.raises(RequestError, match=cause):
        windows_of(*tensors(2, 1_000, [1_000, 1_000], places), LIMITS)


def test_the_windows_of_a_clip_are_counted_and_one_without_a_token_is_left_out() -> None:
    windows = clip_windows(np.zeros(2 * WINDOW_SAMPLES + 100, np.float32))
    assert [(len(window.samples), window.place) for window in windows] == [
        (WINDOW_SAMPLES, 0),
        (WINDOW_SAMPLES, 1),
    ]
