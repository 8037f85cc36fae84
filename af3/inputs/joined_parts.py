"""Finds where files joined into one begin (`cat a.wav b.wav`), where decoders would hear the first alone.

MP3, ADTS, AC-3, MPEG streams, AVI and Matroska are not here: ffmpeg reads on over their seams.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable, Iterator, Sequence

from af3.inputs.file_kind import (
    AIFF,
    AMR,
    AMR_WIDEBAND,
    ASF,
    AU,
    CAF,
    FLAC,
    FLV,
    MP4,
    OGG,
    RF64,
    VOC,
    W64,
    WAV,
    WAVPACK,
    FileKind,
)

MOST_STEPS = 200_000  # chunks, boxes, pages or frames that are looked at: bounds the time for hostile files

FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")  # with the STREAMINFO that must come first
VOC_START = b"Creative Voice File\x1a"
# Bytes of a frame by its type, with the byte that tells it (RFC 4867).
AMR_FRAMES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1)
AMR_WIDEBAND_FRAMES = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1)
WAVES = (b"RIFF", b"RF64", b"BW64", b"RIFX")
ASF_HEADER = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
W64_RIFF = b"riff\x2e\x91\xcf\x11"
WAVPACK_INITIAL = 0x800  # flag of the first block of a group
OGG_BEGINS = 2


def part_starts(data: bytes, kind: FileKind) -> list[int]:
    """Offsets at which a whole file of `kind` begins; the first is `kind.offset`."""
    later = _FINDERS.get(kind.name)
    return [kind.offset, *(later(data, kind.offset) if later else ())]


def _chunks(
    data: bytes, position: int, layout: str, begins: Callable[[int], bool], padded: bool
) -> Iterator[int]:
    """Walk IFF-like chunks; `begins` tells whether a file begins in the place of a chunk."""
    header = struct.calcsize(layout)
    samples_bytes = 0
    for _ in range(MOST_STEPS):
        if position + header > len(data):
            return
        chunk, size = struct.unpack_from(layout, data, position)
        if chunk == b"ds64" and position + 24 <= len(data):  # of RF64
            samples_bytes = struct.unpack_from("<Q", data, position + 16)[0]
        if chunk == b"data" and size == 0xFFFFFFFF:
            size = samples_bytes
        if size <= 0:  # unknown: the rest
            return
        position += header + size
        if padded and size & 1 and not begins(position):
            position += 1
        if begins(position):
            yield position
            position += 12 if padded else 8


def _wav(data: bytes, start: int) -> Iterator[int]:
    def begins(at: int) -> bool:
        return data[at : at + 4] in WAVES and data[at + 8 : at + 12] == b"WAVE"

    return _chunks(data, start + 12, ">4sI" if data[start : start + 4] == b"RIFX" else "<4sI", begins, True)


def _aiff(data: bytes, start: int) -> Iterator[int]:
    def begins(at: int) -> bool:
        return data[at : at + 4] == b"FORM" and data[at + 8 : at + 12] in (b"AIFF", b"AIFC")

    return _chunks(data, start + 12, ">4sI", begins, True)


def _caf(data: bytes, start: int) -> Iterator[int]:
    return _chunks(data, start + 8, ">4sq", lambda at: data[at : at + 6] == b"caff\x00\x01", False)


def _au(data: bytes, start: int) -> Iterator[int]:
    for _ in range(MOST_STEPS):
        if start + 24 > len(data):
            return
        begins, size = struct.unpack_from(">II", data, start + 4)
        start += max(24, begins) + size
        if data[start : start + 4] != b".snd":
            return
        yield start


def _objects(data: bytes, position: int, magic: bytes, whole: int) -> Iterator[int]:
    """Walk objects of a GUID and a size of 8 bytes, `whole` multiples of bytes, which includes both."""
    for _ in range(MOST_STEPS):
        if position + 24 > len(data):
            return
        size = struct.unpack_from("<Q", data, position + 16)[0]
        if size < 24:
            return
        position += -(-size // whole) * whole
        if data.startswith(magic, position):
            yield position


def _w64(data: bytes, start: int) -> Iterator[int]:
    return _objects(data, start, W64_RIFF, 8)


def _asf(data: bytes, start: int) -> Iterator[int]:
    return _objects(data, start, ASF_HEADER, 1)


def _mp4(data: bytes, position: int) -> Iterator[int]:
    """A file begins with `ftyp`, after the index of the one before."""
    indexed = False
    for _ in range(MOST_STEPS):
        if position + 8 > len(data):
            return
        size, box = struct.unpack_from(">I4s", data, position)
        if size == 1 and position + 16 <= len(data):
            size = struct.unpack_from(">Q", data, position + 8)[0]
        if size < 8:
            return
        if box == b"ftyp" and indexed:
            yield position
            indexed = False
        indexed = indexed or box == b"moov"
        position += size


def _flv(data: bytes, start: int) -> Iterator[int]:
    position = start + 13  # header, and the size of no tag
    for _ in range(MOST_STEPS):
        if position + 11 > len(data):
            return
        if data.startswith(b"FLV\x01", position):
            yield position
            position += 13
        else:
            position += 15 + int.from_bytes(data[position + 1 : position + 4], "big")


def _wavpack(data: bytes, position: int) -> Iterator[int]:
    """Blocks count their samples; a file begins where the count does."""
    first = True
    for _ in range(MOST_STEPS):
        if position + 32 > len(data):
            return
        if data.startswith(b"APETAGEX", position):  # tags behind the sound
            position += 32 + struct.unpack_from("<I", data, position + 12)[0]
            continue
        if not data.startswith(b"wvpk", position):
            return
        size, index, samples, flags = (
            struct.unpack_from("<I", data, position + at)[0] for at in (4, 16, 20, 24)
        )
        if index == 0 and samples and flags & WAVPACK_INITIAL:
            if not first:
                yield position
            first = False
        position += 8 + size


def _amr(start: bytes, frames: Sequence[int]) -> Callable[[bytes, int], Iterator[int]]:
    def found(data: bytes, position: int) -> Iterator[int]:
        position += len(start)
        for _ in range(MOST_STEPS):
            if position >= len(data):
                return
            if data.startswith(start, position):
                yield position
                position += len(start)
            else:
                position += frames[data[position] >> 3 & 15]

    return found


def _magic(*magics: bytes) -> Callable[[bytes, int], Iterator[int]]:
    any_of = re.compile(b"|".join(map(re.escape, magics)))

    def found(data: bytes, start: int) -> Iterator[int]:
        places = (match.start() for match in any_of.finditer(data, start + 1))
        yield from itertools.islice(places, MOST_STEPS)

    return found


def _ogg(data: bytes, start: int) -> Iterator[int]:
    """Links of a chain, where their codec, rate or channels differ: ffmpeg reads on over other seams."""
    links: list[tuple[int, bytes]] = []
    position, beginning = start, False
    for _ in range(MOST_STEPS):
        position = data.find(b"OggS", position)
        if position < 0 or position + 27 > len(data):
            break
        segments = data[position + 26]
        body = position + 27 + segments
        begins = bool(data[position + 5] & OGG_BEGINS)
        if begins and not beginning:
            links.append((position, b""))
        if begins:
            links[-1] = links[-1][0], links[-1][1] + _stream_facts(data[body : body + 64])
        beginning = begins
        position = body + sum(data[position + 27 : body])
    if len({facts for _, facts in links}) > 1:
        yield from (at for at, _ in links[1:])


def _stream_facts(head: bytes) -> bytes:
    """Codec, channels and rate of a logical stream, from its first packet."""
    if head.startswith(b"\x01vorbis"):
        return head[:7] + head[11:16]
    if head.startswith(b"OpusHead"):
        return head[:8] + head[9:10]
    if head.startswith(b"Speex"):
        return head[:5] + head[36:40] + head[48:52]
    if head.startswith(b"\x7fFLAC"):
        return head[:5] + head[27:30]
    return head[:8]


_FINDERS: dict[str, Callable[[bytes, int], Iterator[int]]] = {
    WAV.name: _wav,
    RF64.name: _wav,
    AIFF.name: _aiff,
    CAF.name: _caf,
    AU.name: _au,
    W64.name: _w64,
    ASF.name: _asf,
    MP4.name: _mp4,
    FLV.name: _flv,
    WAVPACK.name: _wavpack,
    AMR.name: _amr(b"#!AMR\n", AMR_FRAMES),
    AMR_WIDEBAND.name: _amr(b"#!AMR-WB\n", AMR_WIDEBAND_FRAMES),
    VOC.name: _magic(VOC_START),
    FLAC.name: _magic(*FLAC_STARTS),
    OGG.name: _ogg,
}
