"""What af3-tiny is trained on is a function of its seed."""

import time

import numpy as np
import pytest

from training.espeak_process import Espeak, Utterance
from training.espeak_voices import HELD_OUT, TRAINING
from training.features import log_mel, token_count
from training.scenes import Layout, Studio
from training.signals import INSTRUMENTS, SOUNDS, note, resample, sound


@pytest.fixture(scope="module")
def espeak():
    pytest.importorskip("espeakng_loader", reason="the voices are in the `train` extra")
    voices = Espeak()
    yield voices
    voices.close()


@pytest.mark.parametrize("name", SOUNDS)
def test_a_sound_is_the_same_for_the_same_seed_and_peaks_at_one(name: str) -> None:
    first, again, other = (sound(np.random.default_rng(seed), name) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.abs(first).max() == pytest.approx(1)


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_a_note_has_the_pitch_it_is_asked_for(instrument: str) -> None:
    pcm = note(np.random.default_rng(0), instrument, 69, 1.0)
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    hz = np.fft.rfftfreq(len(pcm), 1 / 16000)
    harmonic = hz[spectrum.argmax()] / 440
    assert harmonic == pytest.approx(max(1, round(harmonic)), abs=0.02)


def test_resampling_keeps_a_tone() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050).astype(np.float32)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(resample(tone, 22050, 16000) - expected).max() < 1e-3


def test_the_same_words_by_the_same_voice_are_the_same_samples_whatever_was_said_before(
    espeak: Espeak,
) -> None:
    wanted = Utterance("three seven", "en-us+f3")
    first = espeak.say(wanted)
    espeak.say(Utterance("something else", "en-us+klatt2"))
    assert np.array_equal(espeak.say(wanted), first)


@pytest.mark.parametrize("variant", ["Alicia", "f5", "f3"])
def test_breathy_voices_are_the_same_in_another_process_at_another_time(variant: str, espeak: Espeak) -> None:
    wanted = Utterance("two one go", f"en-us+{variant}")
    started = int(time.time())
    while int(time.time()) == started:  # espeak-ng seeds rand() by the second
        time.sleep(0.05)
    another = Espeak()
    try:
        assert np.array_equal(another.say(wanted), espeak.say(wanted))
    finally:
        another.close()


def test_a_voice_that_does_not_exist_is_named(espeak: Espeak) -> None:
    with pytest.raises(ValueError, match="zz\\+nobody"):
        espeak.say(Utterance("one", "zz+nobody"))


def test_a_scene_is_the_same_for_the_same_seed(espeak: Espeak) -> None:
    clips = [Studio(np.random.default_rng(3), espeak, held_out=True).record("phrase") for _ in range(2)]
    assert np.array_equal(clips[0].pcm, clips[1].pcm)
    assert clips[0].heard == clips[1].heard


def test_a_layout_bounds_the_length_of_a_clip(espeak: Espeak) -> None:
    studio = Studio(
        np.random.default_rng(0), espeak, held_out=False, layout=Layout((5, 5), (0.1, 0.2), (60, 60), 20)
    )
    assert len(studio.record("beeps").pcm) / 16000 == pytest.approx(20, abs=0.01)


def test_evaluation_voices_are_never_trained_on() -> None:
    assert HELD_OUT
    assert not set(HELD_OUT) & set(TRAINING)


@pytest.mark.parametrize("samples", [320, 4000, 40123, 479_999, 480_000])
def test_features_of_a_short_window_are_the_first_of_the_padded_window(samples: int) -> None:
    from transformers import WhisperFeatureExtractor

    pcm = np.random.default_rng(samples).standard_normal(samples).astype(np.float32) / 10
    expected = WhisperFeatureExtractor(feature_size=128)(pcm, sampling_rate=16000, return_tensors="np")
    found = log_mel(pcm).numpy()
    assert found.shape[1] >= 4 * token_count(samples)
    assert np.abs(found - expected["input_features"][0, :, : found.shape[1]]).max() < 1e-5
