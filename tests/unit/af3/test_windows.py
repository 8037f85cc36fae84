"""Raw tensors of audio_encoder: what preprocess never sends is refused by cause."""

import numpy as np
import pytest

from af3.encoder.windows import windows_of
from af3.errors import RequestError
from af3.inputs.audio import WINDOW_SAMPLES

MAX_TOKENS = 100


def tensors(windows: int, samples: int, lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((windows, samples), np.float32), np.array(lengths, np.int32)


def test_rows_are_cut_to_their_lengths() -> None:
    pcm, lengths = tensors(2, 1_000, [1_000, 400])
    assert [len(window) for window in windows_of(pcm, lengths, MAX_TOKENS)] == [1_000, 400]


def test_no_windows_are_no_audio() -> None:
    assert windows_of(*tensors(0, 0, []), MAX_TOKENS) == []


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
        windows_of(*tensors(windows, samples, lengths), MAX_TOKENS)


def test_a_sample_that_is_no_number_is_refused() -> None:
    pcm, lengths = tensors(1, 1_000, [1_000])
    pcm[0, 7] = np.nan
    with pytest.raises(RequestError, match="not a finite number"):
        windows_of(pcm, lengths, MAX_TOKENS)
