"""Files joined into one are heard whole, each part as it is heard alone."""

from collections.abc import Callable

import numpy as np
import pytest

from af3.errors import RequestError
from af3.inputs.decoding import decode
from af3.inputs.file_kind import file_kind
from af3.inputs.joined_parts import part_starts
from tests.support.clips import clip
from tests.support.written_files import FOLDER


def written(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


# Two files of which decoders would hear the first alone, or the second as a click.
PAIRS = [
    ("ff.wav", "ff_24_5_1.wav"),
    ("ff_pcm_u8.wav", "ff_rf64.wav"),
    ("ff_rf64.wav", "ff.wav"),
    ("ff_gsm.wav", "ff_gsm.wav"),  # an odd size in the middle
    ("ff.aiff", "ff_sowt.aifc"),
    ("ff_pcm.caf", "ff_alac.caf"),
    ("ff.au", "sox.au"),
    ("ff.w64", "sox.w64"),
    ("flac.flac", "ff_24.flac"),
    ("ff.m4a", "ff_alac.m4a"),
    ("ff_faststart.m4a", "ff_fragmented.mp4"),
    ("ff_dash.mp4", "ff.3gp"),
    ("ff.wma", "ff_wmav1.wma"),
    ("ff.wv", "ff.wv"),
    ("ff.flv", "ff.flv"),
    ("ff.voc", "sox.voc"),
    ("sox.amr", "sox_4750.amr"),
    ("oggenc.ogg", "opusenc.opus"),
    ("opusenc.opus", "oggenc.ogg"),
    ("speexenc_nb.spx", "speexenc_wb.spx"),
    ("flac.oga", "opusenc_cbr.opus"),
]


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=["+".join(pair) for pair in PAIRS])
def test_both_files_are_heard(first: str, second: str) -> None:
    alone = [decode(written(name), "audio[0]") for name in (first, second)]
    joined = written(first) + written(second)
    np.testing.assert_array_equal(decode(joined, "audio[0]"), np.concatenate(alone))


def test_three_files_are_heard() -> None:
    one = written("ff.aiff")
    assert len(decode(one * 3, "audio[0]")) == 3 * len(decode(one, "audio[0]"))


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir()))
def test_a_file_that_a_program_wrote_is_one(name: str) -> None:
    data = written(name)
    assert len(part_starts(data, file_kind(data))) == 1


def test_a_last_part_that_is_cut_short_is_refused() -> None:
    with pytest.raises(RequestError, match="cut short"):
        decode(written("ff.wav") * 2 + written("ff.wav")[:-4_000], "audio[0]")


def test_the_parts_together_are_held_to_the_limit() -> None:
    assert len(decode(clip(2) * 2, "audio[0]", max_seconds=4)) == 64_000
    with pytest.raises(RequestError, match=r"audio\[0\]: 6.0 s is longer than the 4 s that this model hears"):
        decode(clip(2) * 1_000, "audio[0]", max_seconds=4)


def test_a_thousand_parts_are_enough() -> None:
    with pytest.raises(RequestError, match=r"audio\[0\]: more than 1000 files are joined into one"):
        decode(clip(0.03) * 1_001, "audio[0]")


def test_tags_before_an_m4a_move_nothing_in_it() -> None:
    tag = b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(128)
    whole = written("ff.m4a")
    np.testing.assert_array_equal(decode(tag + whole, "audio[0]"), decode(whole, "audio[0]"))


HOSTILE: list[Callable[[int], bytes]] = [
    lambda size: b"#!AMR\n" + b"\x7c" * size,
    lambda size: b"RIFF\xff\xff\xff\xffWAVE" + b"JUNK\x01\x00\x00\x00\x00\x00" * (size // 10),
    lambda size: b"FLV\x01\x05\x00\x00\x00\x09" + bytes(size),
    lambda size: b"\x00\x00\x00\x08ftyp" * (size // 8),
    lambda size: (b"OggS" + bytes(23)) * (size // 27),
    lambda size: (b"fLaC\x00\x00\x00\x22" + bytes(34)) * (size // 42),
]


@pytest.mark.parametrize("make", HOSTILE)
def test_the_search_is_bounded_for_hostile_files(make: Callable[[int], bytes]) -> None:
    data = make(20 << 20)
    steps = 0

    class Counted(bytes):
        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            nonlocal steps
            steps += 1
            return super().__getitem__(key)

        def startswith(self, *given):  # type: ignore[no-untyped-def]
            nonlocal steps
            steps += 1
            return super().startswith(*given)

    part_starts(Counted(data), file_kind(data))
    assert steps < 2_000_000
