"""WAV, RF64, AIFF and AU whose chunks decoders do not follow are heard as the plain file of the same samples."""

import struct
import tracemalloc

import numpy as np
import pytest

from af3.inputs.chunk_repairs import plain_file
from af3.inputs.decoding import decode
from af3.inputs.file_kind import file_kind
from tests.support.clips import file_bytes, sound
from tests.support.odd_files import odd_files, written

PLAIN = file_bytes(sound(0.5, seed=5))
FORM, SAMPLES = PLAIN[12:36], PLAIN[44:]
HALF = len(SAMPLES) // 2
OPEN = 2**64 - 1


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content


def riff(*chunks: bytes, form: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return form + struct.pack("<I", len(body) if form == b"RIFF" else 0xFFFFFFFF) + body


def rf64(form: bytes, size: int) -> bytes:
    sizes = chunk(b"ds64", struct.pack("<QQQI", size, size, 0, 0))
    return riff(sizes, FORM, chunk(b"data", SAMPLES, 0xFFFFFFFF), form=form)


DATA = chunk(b"data", SAMPLES)
FILES = {
    "rf64_sizes_open": rf64(b"RF64", OPEN),
    "bw64_sizes_open": rf64(b"BW64", OPEN),
    "rf64_sizes_0": rf64(b"RF64", 0),
    "rf64_without_ds64": riff(FORM, chunk(b"data", SAMPLES, 0xFFFFFFFF), form=b"RF64"),
    "junk_without_padding": riff(FORM, chunk(b"JUNK", bytes(27)), DATA),
    "list_and_bext_without_padding": riff(
        chunk(b"LIST", b"INFO" + bytes(9)), FORM, chunk(b"bext", bytes(603)), DATA
    ),
    "samples_in_two_chunks": riff(FORM, chunk(b"data", SAMPLES[:HALF]), chunk(b"data", SAMPLES[HALF:])),
    "samples_in_a_list": riff(
        FORM, chunk(b"LIST", b"wavl" + chunk(b"data", SAMPLES[:HALF]) + chunk(b"data", SAMPLES[HALF:]))
    ),
    "an_empty_chunk_of_samples_first": riff(FORM, chunk(b"data", b""), DATA),
}


@pytest.mark.parametrize("name", FILES)
def test_every_sample_of_odd_chunks_is_heard(name: str) -> None:
    assert np.array_equal(decode(FILES[name], "audio[0]"), decode(PLAIN, "audio[0]"))


def test_an_aiff_whose_odd_chunk_is_not_padded_is_heard() -> None:
    whole = written("sox.aiff")
    common = whole.index(b"COMM")
    odd = whole[:common] + b"NAME" + struct.pack(">I", 3) + b"abc" + whole[common:]
    assert np.array_equal(decode(odd, "audio[0]"), decode(whole, "audio[0]"))


def test_an_au_of_size_0_is_read_to_its_end() -> None:
    whole = written("sox.au")
    assert np.array_equal(decode(whole[:8] + bytes(4) + whole[12:], "audio[0]"), decode(whole, "audio[0]"))


def test_other_files_are_left_as_they_are() -> None:
    for data in (PLAIN, PLAIN + PLAIN, written("ff_rf64.wav"), written("ff_bext.wav"), *odd_files().values()):
        assert plain_file(data, file_kind(data)) is None


def test_many_chunks_without_padding_take_one_pass() -> None:
    data = riff(FORM, *[chunk(b"JUNK", b"x")] * 20_000, DATA)
    found = plain_file(data, file_kind(data))
    assert found is not None
    assert len(found) <= len(data) + 10_000


def test_nothing_is_copied_of_a_file_that_needs_no_change() -> None:
    data = riff(FORM, chunk(b"data", bytes(8 << 20)))
    kind = file_kind(data)
    tracemalloc.start()
    assert plain_file(data, kind) is None
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20
