"""Embeddings are kept by content: exact, bounded, never of another clip."""

from collections.abc import Sequence

import numpy as np
import pytest

from af3.encoder.embedding_cache import CachedEncoder
from af3.encoder.interface import Window

HIDDEN = 4


class RecordingEncoder:
    """Embeddings that name their window: every sample's sum, the length and the place."""

    def __init__(self) -> None:
        self.encoded: list[int] = []  # windows per call

    def encode(self, windows: Sequence[Window]) -> list[np.ndarray]:
        self.encoded.append(len(windows))
        return [
            np.full((2, HIDDEN), window.samples.sum() + len(window.samples) + 0.5 * window.place, np.float32)
            for window in windows
        ]

    def join(self, embeddings: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(embeddings)[None]


BYTES_OF_A_WINDOW = 2 * HIDDEN * 4


def window(seed: int, samples: int = 1600, place: int = 0) -> Window:
    return Window(np.random.default_rng(seed).standard_normal(samples).astype(np.float32), place)


def cached(most_bytes: int = 1 << 20, identity: str = "engine") -> tuple[CachedEncoder, RecordingEncoder]:
    encoder = RecordingEncoder()
    return CachedEncoder(encoder, identity, most_bytes), encoder


def test_the_second_question_about_a_clip_skips_the_encoder_and_gets_the_same() -> None:
    cache, encoder = cached()
    first = cache.table([window(1), window(2)])
    again = cache.table([window(1), window(2)])
    assert np.array_equal(first, again)
    assert encoder.encoded == [2, 0]
    assert (cache.hits, cache.misses, cache.bytes) == (2, 2, 2 * BYTES_OF_A_WINDOW)


def test_a_clip_is_found_beside_others_and_in_any_order() -> None:
    cache, encoder = cached()
    expected = RecordingEncoder()
    cache.table([window(1), window(2)])
    mixed = [window(3), window(2), window(1), window(3)]
    assert np.array_equal(cache.table(mixed), expected.join(expected.encode(mixed)))
    assert encoder.encoded == [2, 1]


def test_one_changed_sample_or_a_cut_end_is_another_clip() -> None:
    cache, encoder = cached()
    clip = window(1).samples
    changed = clip.copy()
    changed[800] = np.nextafter(changed[800], np.float32(2))
    negative_zero, zero = np.full(1600, -0.0, np.float32), np.zeros(1600, np.float32)
    for other in (clip, changed, clip[:-1], negative_zero, zero, zero[:800]):
        cache.table([Window(other, 0)])
    assert (cache.hits, cache.misses) == (0, 6)
    assert encoder.encoded == [1] * 6


def test_another_engine_has_other_keys() -> None:
    cache, _ = cached(identity="engine")
    other, _ = cached(identity="engine2")
    assert cache._key(window(1)) != other._key(window(1))
    ends_in_samples, _ = cached(identity="engine" + "AAAA")
    four_bytes, none = Window(np.frombuffer(b"AAAA", np.float32), 0), Window(np.empty(0, np.float32), 0)
    assert cache._key(four_bytes) != ends_in_samples._key(none)


def test_the_same_samples_at_another_place_of_their_clip_are_not_the_same_embeddings() -> None:
    cache, encoder = cached()
    first, second = (cache.table([window(1, place=place)]) for place in (0, 1))
    assert not np.array_equal(first, second)
    assert encoder.encoded == [1, 1]
    assert np.array_equal(cache.table([window(1, place=1)]), second)
    assert (cache.hits, cache.misses) == (1, 2)


def test_memory_is_bounded_and_the_least_recently_used_goes_first() -> None:
    cache, _ = cached(most_bytes=2 * BYTES_OF_A_WINDOW)
    for seed in (1, 2, 1, 3):
        cache.table([window(seed)])
    assert cache.bytes == 2 * BYTES_OF_A_WINDOW
    hits = cache.hits
    cache.table([window(1)])
    assert cache.hits == hits + 1
    cache.table([window(2)])
    assert cache.hits == hits + 1


def test_a_request_larger_than_the_cache_is_answered_whole() -> None:
    cache, _ = cached(most_bytes=BYTES_OF_A_WINDOW)
    expected = RecordingEncoder()
    windows = [window(seed) for seed in range(5)]
    assert np.array_equal(cache.table(windows), expected.join(expected.encode(windows)))
    assert cache.bytes == BYTES_OF_A_WINDOW


def test_without_room_nothing_is_kept_or_hashed() -> None:
    cache, encoder = cached(most_bytes=0)
    cache.table([window(1)])
    cache.table([window(1)])
    assert encoder.encoded == [1, 1]
    assert (cache.hits, cache.misses, cache.bytes) == (0, 0, 0)


@pytest.mark.parametrize("most_bytes", [0, 1 << 20])
def test_all_windows_of_all_requests_are_encoded_in_one_call_and_come_back_to_their_own(
    most_bytes: int,
) -> None:
    cache, encoder = cached(most_bytes)
    requests = [[window(1), window(2)], [window(3)], [window(2), window(4), window(5)]]
    tables = cache.tables(requests)
    assert encoder.encoded == [6 if most_bytes == 0 else 5]  # window 2 is in two of them
    expected = RecordingEncoder()
    for table, request in zip(tables, requests, strict=True):
        assert np.array_equal(table, expected.join(expected.encode(request)))
