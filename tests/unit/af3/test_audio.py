"""Files in, 16 kHz samples out: equal to Transformers', and refused where they must be."""

import base64
from pathlib import Path

import numpy as np
import pytest

from af3.errors import RequestError
from af3.inputs import audio
from af3.inputs.base64_text import file_bytes as element_bytes
from af3.inputs.decoding import decode
from tests.support import transformers_audio
from tests.support.clips import clip, file_bytes, saved, sound

KINDS = [
    ("WAV", "PCM_16", 44_100, 2),
    ("WAV", "PCM_U8", 8_000, 1),
    ("WAV", "PCM_24", 16_000, 1),
    ("WAV", "FLOAT", 96_000, 6),
    ("FLAC", "PCM_24", 48_000, 1),
    ("MP3", "MPEG_LAYER_III", 44_100, 2),
    ("OGG", "VORBIS", 22_050, 1),
    ("AIFF", "PCM_24", 44_100, 2),
    ("CAF", "PCM_16", 48_000, 1),
    ("AU", "FLOAT", 32_000, 2),
    ("W64", "PCM_16", 16_000, 1),
    ("RF64", "PCM_16", 96_000, 2),
    ("VOC", "ULAW", 8_000, 1),
    ("NIST", "PCM_16", 16_000, 1),
]


@pytest.mark.parametrize(("kind", "subtype", "rate", "channels"), KINDS)
def test_samples_equal_those_of_transformers(
    kind: str, subtype: str, rate: int, channels: int, tmp_path: Path
) -> None:
    data = file_bytes(sound(2.3, rate, channels, seed=1), rate, kind, subtype)
    expected = transformers_audio.read(str(saved(tmp_path, data, f"clip.{kind.lower()}")))
    np.testing.assert_array_equal(decode(data, "audio[0]"), expected)


@pytest.mark.parametrize(
    ("samples", "frames", "tokens"),
    [(160, 1, 0), (320, 2, 0), (321, 3, 1), (8_000, 50, 12), (479_520, 2997, 749), (480_000, 3000, 750)],
)
def test_token_counts_follow_the_two_halvings(samples: int, frames: int, tokens: int) -> None:
    assert audio.mel_frames(samples) == frames
    assert audio.audio_token_count(samples) == tokens


@pytest.mark.parametrize("samples", [321, 8_000, 16_001, 479_361, 479_999, 480_000])
def test_a_window_is_padded_past_all_that_its_last_token_hears(samples: int) -> None:
    """A convolution of width 3 and stride 2: encoder frame n hears mel frames 2n - 1 to 2n + 1."""
    heard = 2 * (audio.encoder_frames(samples) - 1) + 1
    fed = audio.fed_frames(samples)
    assert fed % 2 == 0 and fed <= audio.WINDOW_FRAMES
    assert fed > heard + 1 or fed == audio.WINDOW_FRAMES


def test_windows_are_thirty_seconds_and_the_last_is_the_rest() -> None:
    lengths = [len(window) for window in audio.split_windows(np.zeros(75 * 16_000, np.float32))]
    assert lengths == [480_000, 480_000, 240_000]
    assert audio.clip_token_count(np.zeros(75 * 16_000)) == 750 + 750 + 375


def test_a_data_uri_holds_the_file() -> None:
    data = clip(0.2)
    assert element_bytes(b"data:audio/wav;base64," + base64.b64encode(data), "audio[0]") == data


REFUSED = {
    "an empty file": (b"", "empty"),
    "text named .wav": (b"This is not a sound at all, just some text.\n" * 20, "not a readable"),
    "a truncated WAV": (clip(1.0)[:-4_000], "cut short"),
    "a WAV that ends in its header": (clip(1.0)[:30], "cut short"),
    "a truncated FLAC": (file_bytes(sound(2), kind="FLAC")[:-3_000], "cut short"),
    "a truncated MP3": (file_bytes(sound(4), kind="MP3")[:-6_000], "cut short"),
    "a truncated OGG": (file_bytes(sound(4), kind="OGG")[:-3_000], "cut short"),
    "NaN": (file_bytes(np.array([0.1] * 999 + [np.nan]), subtype="FLOAT"), "sample 999 is not a finite"),
    "infinity": (file_bytes(np.array([np.inf] + [0.1] * 999), subtype="FLOAT"), "sample 0 is not a finite"),
    "11 minutes": (
        file_bytes(np.zeros(11 * 60 * 8_000), 8_000, subtype="PCM_U8"),
        "660.0 s is longer than the 600 s",
    ),
    "no samples": (file_bytes(np.zeros(0)), "no samples"),
    "20 ms": (file_bytes(np.zeros(320)), "20 ms is too short"),
    "a sample rate of 2 kHz": (file_bytes(sound(1, 2_000), 2_000), "2000 Hz is outside"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_file_is_refused_by_name_and_cause(name: str) -> None:
    data, cause = REFUSED[name]
    with pytest.raises(RequestError, match=cause) as refused:
        decode(data, "audio[3]")
    assert refused.value.status == "INVALID_ARGUMENT"
    assert refused.value.message.startswith("audio[3]: ")


def test_broken_base64_is_refused() -> None:
    for uri in (b"data:audio/wav;base64,@@@", b"data:audio/wav,abc"):
        with pytest.raises(RequestError, match=r"audio\[0\]: .*base64"):
            element_bytes(uri, "audio[0]")
