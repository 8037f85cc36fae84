"""Opus in WebM and AAC in ADTS are decoded in one thread of ffmpeg: the same samples, and no more trust in the file."""

from dataclasses import replace

import numpy as np
import pytest

from af3.inputs import ffmpeg, mp3_frames
from af3.inputs.decoding import _in_memory, decode
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
def test_the_filter_reads_all_without_complaint(name: str) -> None:
    """A complaint would send the file the usual way, unnoticed and slower."""
    data = written(name)
    with _in_memory(data) as file, ffmpeg.decoding(file, file_kind(data), 8) as stream:
        frames = sum(len(block) for block in stream.blocks())
    assert frames / stream.rate_hz == pytest.approx(len(decode(data, "audio[0]")) / 16_000, abs=0.001)


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


@pytest.mark.parametrize("name", ["ff_vorbis.webm", "ff_aac.mkv", "ff_flac.mkv", "film.webm"])
def test_a_file_that_only_claims_its_codec_is_not_decoded(name: str) -> None:
    """The filter would take any decoder: the whitelist leaves it the one that the bytes show."""
    data = written(name)
    claimed = replace(file_kind(data), only_codec="opus")
    with (
        _in_memory(data) as file,
        pytest.raises(ffmpeg.Undecodable),
        ffmpeg.decoding(file, claimed, 8) as stream,
    ):
        list(stream.blocks())


def test_the_length_of_adts_is_that_of_its_frames() -> None:
    data = written("ff_adts_pipe.aac")
    seconds = mp3_frames.steady_adts_seconds(data, 0)
    assert seconds == pytest.approx(len(decode(data, "audio[0]")) / 16_000, abs=0.001)
    assert mp3_frames.steady_adts_seconds(data[:-10], 0) == pytest.approx(seconds - 1024 / 16_000)
