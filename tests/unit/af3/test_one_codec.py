"""Opus in WebM and AAC in ADTS are decoded in one thread of ffmpeg: the same samples, and no more trust in the file."""

from dataclasses import replace

import numpy as np
import pytest

from af3.inputs import ffmpeg, mp3_frames
from af3.inputs.decoding import decode
from af3.inputs.file_kind import file_kind
from tests.support.written_files import FOLDER

OPUS = ["ff_opus.webm", "ff_opus_live.webm", "ff_opus_mono.webm"]
AAC = ["ff_adts.aac", "ff_adts_pipe.aac"]


def written(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def plainly(data: bytes, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The samples of ffmpeg's usual way."""
    with monkeypatch.context() as patched:
        patched.setattr(
            "af3.inputs.decoding.file_kind",
            lambda data: replace(file_kind(data), only_codec=None, seconds=None),
        )
        return decode(data, "audio[0]")


@pytest.mark.parametrize("name", [*OPUS, *AAC])
def test_the_samples_are_those_of_the_usual_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(name)
    assert file_kind(data).only_codec is not None
    np.testing.assert_array_equal(decode(data, "audio[0]"), plainly(data, monkeypatch))


@pytest.mark.parametrize("name", [*OPUS, *AAC])
def test_a_broken_packet_does_not_end_the_clip(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(written(name))
    for place in range(len(data) // 2, len(data) // 2 + 40):
        data[place] ^= 0x5A
    heard, usual = decode(bytes(data), "audio[0]"), plainly(bytes(data), monkeypatch)
    np.testing.assert_array_equal(heard, usual)


@pytest.mark.parametrize(
    "data",
    [
        written("film.webm"),  # a second track
        written("ff_vorbis.webm"),
        written("ff_aac.mkv"),
        written("ff_opus.webm") * 2,
        written("ff_adts.aac") + written("ff_adts_pipe.aac"),  # another rate
        written("ff_adts.aac")[:4000] + bytes(50) + written("ff_adts.aac")[4000:],
    ],
    ids=["film", "Vorbis", "AAC in Matroska", "two recordings", "two rates", "junk between"],
)
def test_what_is_in_doubt_takes_the_usual_way(data: bytes) -> None:
    assert file_kind(data).is_sound
    assert file_kind(data).only_codec is None


def test_a_codec_that_a_file_only_claims_is_not_decoded() -> None:
    """The name of the codec is in the bytes as often as the file likes; the decoder's whitelist has Opus alone."""
    command = ffmpeg._command("ffmpeg", file_kind(written("ff_opus.webm")), 8)
    assert "codec_whitelist=opus'" in command[command.index("-i") + 1]
    assert "protocol_whitelist=file" in command[command.index("-i") + 1]


def test_the_length_of_adts_is_that_of_its_frames() -> None:
    data = written("ff_adts_pipe.aac")
    seconds = mp3_frames.steady_adts_seconds(data, 0)
    assert seconds == pytest.approx(len(decode(data, "audio[0]")) / 16_000, abs=0.001)
    assert mp3_frames.steady_adts_seconds(data[:-10], 0) == pytest.approx(seconds - 1024 / 16_000)
