"""Embeddings of the ONNX encoder equal Transformers' on every valid position."""

from collections.abc import Sequence

import numpy as np
import pytest

from af3.encoder.onnx_encoder import AudioEncoder
from af3.inputs.audio import split_windows
from build_engines.encoder.verify_encoder import ERROR_BOUND, probe, relative_error
from tests.support.clips import sound
from tests.support.engines import BuiltEngines
from tests.support.oracle import Oracle

# 25 ms is the shortest clip with a token. Odd and even mel and encoder frames; full and nearly full windows.
SECONDS = (0.025, 0.05, 0.5, 1.0, 3.3, 7.0, 7.005, 12.345, 29.9, 29.97, 30.0)


@pytest.fixture(scope="session")
def encoder(engines: BuiltEngines) -> AudioEncoder:
    return AudioEncoder.load(engines.engines / "audio_encoder", threads=1)


def clip(seconds: float, seed: int = 0) -> np.ndarray:
    return sound(seconds, seed=seed)[:, 0].astype(np.float32)


def require_equal(ours: Sequence[np.ndarray], clips: Sequence[np.ndarray], oracle: Oracle) -> None:
    """Each clip's embeddings within the bound; the largest error is printed (pytest -s)."""
    errors = []
    for rows, samples in zip(ours, clips, strict=True):
        reference = oracle.audio_embeddings(samples).numpy()
        assert rows.shape == reference.shape
        errors.append(relative_error(rows, reference))
    print(f"relative error of embeddings: {max(errors):.2e} (bound {ERROR_BOUND:.0e})")
    assert max(errors) <= ERROR_BOUND


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_clip_alone_has_the_embeddings_of_transformers(
    encoder: AudioEncoder, oracle: Oracle, seconds: float
) -> None:
    samples = clip(seconds)
    require_equal(encoder.encode([samples]), [samples], oracle)


def test_clips_of_all_lengths_in_one_batch_do_not_disturb_each_other(
    encoder: AudioEncoder, oracle: Oracle
) -> None:
    clips = [clip(seconds, seed) for seed, seconds in enumerate(SECONDS)]
    require_equal(encoder.encode_batch(clips), clips, oracle)
    require_equal(encoder.encode(clips), clips, oracle)


def test_the_windows_of_a_long_clip_have_the_embeddings_of_transformers(
    encoder: AudioEncoder, oracle: Oracle
) -> None:
    samples = clip(75)
    ours = np.concatenate(encoder.encode(split_windows(samples)))
    require_equal([ours], [samples], oracle)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(16_000, np.float32),
        np.ones(16_000, np.float32),
        np.eye(1, 16_000, 15_999, dtype=np.float32)[0],
        1e-4 * clip(2),
        probe(5),
    ],
    ids=["silence", "constant", "click in the last sample", "very quiet", "loud and quiet"],
)
def test_unusual_sounds_have_the_embeddings_of_transformers(
    encoder: AudioEncoder, oracle: Oracle, samples: np.ndarray
) -> None:
    require_equal(encoder.encode([samples]), [samples], oracle)
