"""Windows are grouped so that neither memory nor work grows with what else is in the request."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from af3.encoder.interface import Window
from af3.encoder.onnx_encoder import BATCH_FRAMES, AudioEncoder, batches
from af3.inputs.audio import HOP, audio_token_count, encoder_frames, fed_frames

FULL = 480_000
HIDDEN = 4


@dataclass
class RecordingSession:
    """In place of ONNX Runtime: keeps the shapes it was given and answers with each row's own length."""

    shapes: list[tuple[int, int]] = field(default_factory=list)

    def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        rows, samples = feed["pcm"].shape
        self.shapes.append((rows, samples))
        lengths = feed["pcm_lengths"].astype(np.float32)[:, None, None]
        return [np.broadcast_to(lengths, (rows, samples // HOP // 4, HIDDEN))]


def encode(lengths: list[int]) -> tuple[list[np.ndarray], list[tuple[int, int]]]:
    session = RecordingSession()
    windows = [Window(np.ones(length, np.float32), 0) for length in lengths]
    return AudioEncoder(session, HIDDEN, ("pcm", "pcm_lengths")).encode(windows), session.shapes


window_lengths = st.lists(st.integers(1, FULL), max_size=40)


@given(window_lengths)
def test_every_window_with_tokens_is_in_exactly_one_batch(lengths: list[int]) -> None:
    heard = [index for index, length in enumerate(lengths) if audio_token_count(length)]
    assert sorted(index for batch in batches(lengths) for index in batch) == heard


@given(window_lengths)
def test_a_batch_is_no_larger_than_one_full_window(lengths: list[int]) -> None:
    for batch in batches(lengths):
        assert len(batch) * max(fed_frames(lengths[index]) for index in batch) <= BATCH_FRAMES


@given(window_lengths)
def test_windows_of_a_batch_have_one_length_to_the_frame(lengths: list[int]) -> None:
    for batch in batches(lengths):
        assert len({encoder_frames(lengths[index]) for index in batch}) == 1


def test_twenty_full_windows_are_encoded_one_by_one() -> None:
    _, shapes = encode([FULL] * 20)
    assert shapes == [(1, FULL)] * 20


def test_short_clips_share_a_batch() -> None:
    _, shapes = encode([16_000] * 10)
    assert shapes == [(10, HOP * fed_frames(16_000))]


def test_embeddings_come_back_in_the_order_of_the_windows() -> None:
    lengths = [16_000, FULL, 320, 48_000, 16_160]
    embeddings, _ = encode(lengths)
    assert [len(rows) for rows in embeddings] == [audio_token_count(length) for length in lengths]
    assert [rows[0, 0] for rows in embeddings if len(rows)] == [16_000, FULL, 48_000, 16_160]


def test_a_window_without_a_token_costs_nothing() -> None:
    embeddings, shapes = encode([320])
    assert embeddings[0].shape == (0, HIDDEN)
    assert shapes == []
