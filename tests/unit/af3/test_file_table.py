"""Format × writer × oddity: what is read is what ffmpeg hears, in length and in samples.

tests/support/written_files.py wrote the committed files; odd_files.py changes them, odd_headers.py makes others.
"""

from pathlib import Path

import numpy as np
import pytest

from af3.errors import RequestError
from af3.inputs.clip_decoder import ClipDecoder
from af3.inputs.decoding import decode
from tests.support.ffmpeg_reference import correlation, heard
from tests.support.odd_files import ID3, odd_files
from tests.support.odd_headers import odd_headers
from tests.support.written_files import COMMANDS, FOLDER, SECONDS

ODD = odd_files() | odd_headers()
MP3_FRAME = 1152 * 16_000 // 44_100 + 2  # samples at 16 kHz
# libsndfile's samples, which are Transformers', differ from ffmpeg's by the frame at a seam or a cut.
A_FRAME_OFF = {"mp3_bare_id3_between.mp3", "mp3_last_frame_cut.mp3", "loas_from_within_a_frame.loas"}


def test_the_table_has_at_least_a_hundred_and_twenty_files() -> None:
    assert len(COMMANDS) + len(ODD) >= 120
    assert {path.name for path in FOLDER.iterdir()} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_program_wrote_is_heard_as_ffmpeg_hears_it(name: str) -> None:
    compare(FOLDER / name)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_heard_as_ffmpeg_hears_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(ODD[name])
    compare(path)


@pytest.mark.parametrize(
    ("name", "pauses_s"),
    [("sox.amr", 0), ("sox_4750.amr", 0), ("ff_amr.3gp", 0), ("sox_dtx.amr", 3), ("ff_amr_dtx.3gp", 3)],
)
def test_the_pauses_of_amr_are_heard_as_long_as_they_were(name: str, pauses_s: int) -> None:
    assert len(decode((FOLDER / name).read_bytes(), "audio[0]")) == (SECONDS + pauses_s) * 16_000


@pytest.mark.parametrize(
    "name",
    [
        "ff.w64",
        "sox.w64",
        "ff_float.w64",
        "ff.wma",
        "ff_wmav1.wma",
        "ff.avi",
        "ff.voc",
        "sox.voc",
        "ff.wv",
        "ff.tta",
    ]
    + ["sox.sph", "sox.sox", "ff.flv", "ff_nelly.flv", "sox.8svx", "sox.maud", "ff.mmf", "ff.ast"],
)
def test_a_file_whose_header_says_more_than_is_there_is_refused(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    with pytest.raises(RequestError, match="the file is cut short"):
        decode(data[: len(data) * 6 // 10], "audio[0]")


@pytest.mark.parametrize(
    "name",
    [
        "ff.wav",
        "ff_rf64.wav",
        "flac.flac",
        "sox.aiff",
        "sox.au",
        "sox.caf",
        "ff.w64",
        "sox.sph",
        "sox.8svx",
        "oggenc.ogg",
    ],
)
def test_a_file_behind_an_id3_tag_is_heard_as_without(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    assert np.array_equal(decode(ID3 + data, "audio[0]"), decode(data, "audio[0]"))


def test_compressed_8svx_behind_an_id3_tag_takes_no_time() -> None:
    """libsndfile 1.2.2 never returned from opening it; decoded in the process that a limit ends."""
    decoder = ClipDecoder()
    data = ODD["svx_fibonacci.8svx"]
    assert len(decoder.decode(ID3 + data, "audio[0]").pcm) == len(decode(data, "audio[0]"))
    decoder.close()


def test_an_ogg_without_its_last_page_is_noted() -> None:
    """A live capture, or cut between two pages: nothing tells which, so it is read, and the log says so."""
    decoder = ClipDecoder()
    for name in ("ogg_opus_not_closed.ogg", "ogg_vorbis_not_closed.ogg"):
        note = decoder.decode(ODD[name], "audio[0]").note
        assert note is not None and "last page is not marked as the last" in note
    assert decoder.decode((FOLDER / "oggenc.ogg").read_bytes(), "audio[0]").note is None
    decoder.close()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\x02#!SILK_V3" + bytes(99), "SILK, a voice message of WeChat or QQ"),
        (b"RIFF" + bytes(4) + b"WEBPVP8 " + bytes(99), "a WebP picture"),
        (b"MPCK" + bytes(99), "Musepack"),
    ],
)
def test_a_kind_that_is_not_read_is_named_with_what_converts_it(data: bytes, named: str) -> None:
    with pytest.raises(RequestError, match=f"it is {named}.*; convert it: ffmpeg -i FILE"):
        decode(data, "audio[0]")


@pytest.mark.parametrize(
    "field", [slice(22, 24), slice(24, 28), slice(34, 36)], ids=["channels", "rate", "bits"]
)
def test_a_wav_with_a_zero_where_none_may_be_is_refused(field: slice) -> None:
    data = bytearray(ODD["wav_size_plus_1.wav"])
    data[field] = bytes(field.stop - field.start)
    with pytest.raises(RequestError, match="not a readable audio file: WAV"):
        decode(bytes(data), "audio[0]")


def compare(path: Path) -> None:
    # FFmpeg's own decoder of AMR leaves the frames of pauses out.
    theirs = heard(path, "libopencore_amrnb" if path.suffix == ".amr" or "_amr" in path.name else None)
    ours = decode(path.read_bytes(), "audio[0]")
    off = MP3_FRAME if path.name in A_FRAME_OFF else 1
    assert abs(len(ours) - len(theirs)) <= off
    if path.name not in A_FRAME_OFF:
        # FFmpeg has two decoders of Opus, which fill in other noise at low bit rates; libsndfile has one of them.
        others = [theirs, heard(path, "libopus")] if is_ogg_opus(path) else [theirs]
        assert max(correlation(ours, other) for other in others) >= 0.999
    assert len(theirs) > 5_000


def is_ogg_opus(path: Path) -> bool:
    data = path.read_bytes()
    return data[:4] == b"OggS" and b"OpusHead" in data[:100]
