"""Embeddings of the ONNX encoder equal Transformers' on every valid position, for both classes of the family."""

from collections.abc import Sequence
from functools import cache
from queue import Queue

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from af3.encoder.embedding_cache import CachedEncoder
from af3.encoder.interface import Window
from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.turns import Turns
from af3.encoder.windows import clip_windows
from af3.manifest import Manifest
from build_engines.encoder import export_encoder
from build_engines.encoder.verify_encoder import ERROR_BOUND, probe, relative_error
from build_engines.source.checkpoint import open_checkpoint
from build_engines.stage import BuildError
from tests.support.clips import sound
from tests.support.engines import build_ragged_encoder, build_random_engines, random_checkpoint
from tests.support.oracle import Oracle
from training.random_model import Family

# 25 ms is the shortest clip with a token. Odd and even mel and encoder frames; full and nearly full windows.
SECONDS = (0.025, 0.05, 0.5, 1.0, 3.3, 7.0, 7.005, 12.345, 29.9, 29.97, 30.0)
LONGEST = {"af3": 600, "next": 1800}
# Of the embeddings, where a window is taken for another: Transformers' own differ by half.
WRONG = 0.1


@cache
def engine_of(family: Family) -> AudioEncoder:
    return AudioEncoder.load(build_random_engines(family=family).engines / "audio_encoder", threads=1)


@cache
def ragged_engine_of(family: Family) -> AudioEncoder:
    """The form that TensorRT compiles."""
    return AudioEncoder.load(build_ragged_encoder(family=family), threads=1)


@cache
def oracle_of(family: Family) -> Oracle:
    torch.set_num_threads(1)
    return Oracle(random_checkpoint(family=family))


@pytest.fixture(params=["af3", "next"])
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


@pytest.fixture
def encoder(family: Family) -> AudioEncoder:
    return engine_of(family)


@pytest.fixture
def ragged_encoder(family: Family) -> AudioEncoder:
    return ragged_engine_of(family)


@pytest.fixture
def oracle(family: Family) -> Oracle:
    return oracle_of(family)


def clip(seconds: float, seed: int = 0) -> np.ndarray:
    return sound(seconds, seed=seed)[:, 0].astype(np.float32)


def embeddings(encoder: AudioEncoder, samples: np.ndarray) -> np.ndarray:
    return np.concatenate(encoder.encode(clip_windows(samples)))


def require_equal(ours: Sequence[np.ndarray], clips: Sequence[np.ndarray], oracle: Oracle) -> None:
    """Each clip's embeddings within the bound; the largest error is printed (pytest -s)."""
    errors = []
    for rows, samples in zip(ours, clips, strict=True):
        reference = oracle.audio_embeddings(samples).numpy()
        assert rows.shape == reference.shape
        errors.append(relative_error(rows, reference))
    print(f"relative error of embeddings: {max(errors):.2e} (bound {ERROR_BOUND['fp32']:.0e})")
    assert max(errors) <= ERROR_BOUND["fp32"]


@pytest.mark.parametrize("seconds", (*SECONDS, 65.3, 184.7))
def test_a_clip_alone_has_the_embeddings_of_transformers(
    encoder: AudioEncoder, oracle: Oracle, seconds: float
) -> None:
    samples = clip(seconds)
    require_equal([embeddings(encoder, samples)], [samples], oracle)


def test_the_longest_clip_has_the_embeddings_of_transformers(
    encoder: AudioEncoder, oracle: Oracle, family: Family
) -> None:
    """Half an hour of the newer class: angles of RoTE reach 30 000 there."""
    samples = clip(LONGEST[family])
    ours, reference = embeddings(encoder, samples), oracle.audio_embeddings(samples).numpy()
    assert ours.shape == reference.shape == (25 * LONGEST[family], ours.shape[1])
    last = relative_error(ours[-750:], reference[-750:])
    print(f"relative error: {relative_error(ours, reference):.2e}, of the last window {last:.2e}")
    assert max(relative_error(ours, reference), last) <= ERROR_BOUND["fp32"]


def test_clips_of_all_lengths_in_one_batch_do_not_disturb_each_other(
    encoder: AudioEncoder, ragged_encoder: AudioEncoder, oracle: Oracle
) -> None:
    clips = [clip(seconds, seed) for seed, seconds in enumerate(SECONDS)]
    windows = [window for samples in clips for window in clip_windows(samples)]
    require_equal(ragged_encoder.encode_batch(windows), clips, oracle)
    require_equal(encoder.encode(windows), clips, oracle)


def test_clips_of_one_length_share_a_call(encoder: AudioEncoder, oracle: Oracle) -> None:
    clips = [clip(1.0, seed) for seed in range(3)]
    clips[1] = clips[1][:-7]  # of as many encoder frames
    require_equal(encoder.encode_batch([Window(samples, 0) for samples in clips]), clips, oracle)


def test_windows_of_several_clips_in_one_batch_keep_their_places(
    ragged_encoder: AudioEncoder, oracle: Oracle
) -> None:
    clips = [clip(65.3, 1), clip(47.9, 2), clip(12.3, 3), clip(35, 4)]
    counts = np.cumsum([len(clip_windows(samples)) for samples in clips])[:-1]
    rows = ragged_encoder.encode_batch([window for samples in clips for window in clip_windows(samples)])
    ours = [
        np.concatenate(rows[start:end]) for start, end in zip((0, *counts), (*counts, len(rows)), strict=True)
    ]
    require_equal(ours, clips, oracle)


def test_a_last_window_without_a_token_is_left_out(encoder: AudioEncoder, oracle: Oracle) -> None:
    """30.01 s: Transformers' newer class raises an IndexError there. Equal to the clip cut to 30 s."""
    samples = clip(30.01)
    require_equal([embeddings(encoder, samples)], [samples[:480_000]], oracle)


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
    require_equal([embeddings(encoder, samples)], [samples], oracle)


def test_a_swapped_window_index_gives_other_embeddings() -> None:
    """So no test here would pass if the places of windows were mixed up."""
    samples = clip(65.3)
    reference = oracle_of("next").audio_embeddings(samples).numpy()
    windows = clip_windows(samples)
    places = (1, 0, 2)
    swapped = [Window(window.samples, place) for window, place in zip(windows, places, strict=True)]
    assert relative_error(np.concatenate(engine_of("next").encode(swapped)), reference) > WRONG


@pytest.mark.parametrize("by", [export_encoder.LogMel, export_encoder.LogMelByProducts])
@pytest.mark.parametrize("samples", [640, 16_000, 479_680, 480_000])
def test_both_forms_of_log_mel_are_the_feature_extractors(
    by: type[export_encoder.LogMel], samples: int
) -> None:
    extractor = WhisperFeatureExtractor(feature_size=128)
    pcm = np.stack([clip(30.0)[:samples], 1e-3 * clip(30.0)[-samples:]])
    expected = extractor(list(pcm), sampling_rate=16_000, padding=False, return_tensors="np")[
        "input_features"
    ]
    found = by(extractor.mel_filters)(torch.from_numpy(pcm)).numpy()
    assert found.shape == (2, 128, samples // 160)
    assert np.abs(found - expected).max() < 2e-4


@pytest.mark.parametrize("form", [export_encoder.AlignedEncoder, export_encoder.RaggedEncoder])
def test_both_forms_and_their_rotations_are_verified(
    form: type[export_encoder.WaveformEncoder], tmp_path
) -> None:
    figures = export_encoder.build(open_checkpoint(str(random_checkpoint(family="next"))), form, tmp_path)
    assert figures["relative_error"] < ERROR_BOUND["fp32"]


@pytest.mark.parametrize("family", ["af3", "next"])
def test_beside_an_int4_llm_the_encoder_multiplies_in_int8(family: Family) -> None:
    whole, rounded = (build_random_engines(family=family, precision=p).engines for p in ("fp32", "int4"))
    sizes = [
        sum(file.stat().st_size for file in (e / "audio_encoder").glob("model.*")) for e in (whole, rounded)
    ]
    assert sizes[1] < 0.8 * sizes[0]  # of a model so small, much is tables that stay fp32
    exact, fast = (AudioEncoder.load(engines / "audio_encoder", threads=1) for engines in (whole, rounded))
    for seconds in (0.5, 3.0, 30.0):
        windows = clip_windows(clip(seconds))
        error = relative_error(*(encoder.join(encoder.encode(windows)) for encoder in (fast, exact)))
        assert 1e-4 < error < ERROR_BOUND["int8"]
    assert Manifest.read(rounded).precision.audio_encoder == "int8"


def test_an_encoder_without_the_rotation_is_not_built(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tower and adaptor of the newer class alone are exactly right, and every embedding is wrong."""
    monkeypatch.setattr(export_encoder, "_rotation", lambda *_: None)
    with pytest.raises(BuildError, match="relative error of embeddings"):
        export_encoder.build(
            open_checkpoint(str(random_checkpoint(family="next"))), export_encoder.AlignedEncoder, tmp_path
        )


def test_an_encoder_that_takes_every_window_for_the_first_is_not_built(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = AudioEncoder.encode_batch
    monkeypatch.setattr(
        AudioEncoder,
        "encode_batch",
        lambda self, windows: encode(self, [Window(window.samples, 0) for window in windows]),
    )
    with pytest.raises(BuildError, match="relative error of embeddings"):
        export_encoder.build(
            open_checkpoint(str(random_checkpoint(family="next"))), export_encoder.AlignedEncoder, tmp_path
        )


def test_clips_that_take_turns_have_the_embeddings_they_have_alone_bit_for_bit(encoder: AudioEncoder) -> None:
    clips = [
        clip_windows(clip(seconds, seed)) for seed, seconds in enumerate((61.0, 0.5, 33.3, 5.0, 5.0, 2.5))
    ]
    # Short windows of one length share a run with those of their own request, and with no other's.
    clips.append([Window(clip(5.0, seed), 0) for seed in range(10, 15)])
    alone = [encoder.join(encoder.encode(windows)) for windows in clips]
    for most_bytes in (0, 1 << 24):
        turns = Turns(CachedEncoder(encoder, "engine", most_bytes))
        tables: Queue[tuple[int, np.ndarray]] = Queue()
        for number, windows in enumerate(clips):
            turns.submit(f"{number}", windows, Keeper(number, tables))
        found = dict(tables.get(timeout=120) for _ in clips)
        turns.close()
        for number, table in enumerate(alone):
            assert np.array_equal(found[number], table)


class Keeper:
    def __init__(self, number: int, tables: "Queue[tuple[int, np.ndarray]]"):
        self._number, self._tables = number, tables

    def encoded(self, table: np.ndarray) -> None:
        self._tables.put((self._number, table))

    def failed(self, error: Exception) -> None:
        self._tables.put((self._number, np.empty(0)))
