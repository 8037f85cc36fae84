"""Format × writer × oddity: what is read is what ffmpeg hears, in length and in samples.

tests/support/written_files.py wrote the committed files; tests/support/odd_files.py changes them.
"""

from pathlib import Path

import pytest

from af3.inputs.decoding import decode
from tests.support.ffmpeg_reference import correlation, heard
from tests.support.odd_files import odd_files
from tests.support.written_files import COMMANDS, FOLDER, SECONDS

ODD = odd_files()
MP3_FRAME = 1152 * 16_000 // 44_100 + 2  # samples at 16 kHz
# libsndfile's samples, which are Transformers', differ from ffmpeg's by the frame at a seam or a cut.
A_FRAME_OFF = {"mp3_bare_id3_between.mp3", "mp3_last_frame_cut.mp3"}


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


@pytest.mark.parametrize("name", ["sox.amr", "sox_4750.amr"])
def test_the_pauses_of_amr_are_heard_as_long_as_they_were(name: str) -> None:
    assert len(decode((FOLDER / name).read_bytes(), "audio[0]")) == SECONDS * 16_000


def compare(path: Path) -> None:
    # FFmpeg's own decoder of AMR leaves the frames of pauses out.
    theirs = heard(path, "libopencore_amrnb" if path.suffix == ".amr" else None)
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
