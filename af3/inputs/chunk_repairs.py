"""Makes plain files of WAV and AIFF files whose chunks neither libsndfile nor ffmpeg follow to all of the samples.

Some programs forget the byte that pads a chunk of odd size, write the samples in several chunks or in a list of them,
or write RF64 to a pipe and leave its sizes open.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from af3.inputs.file_kind import AIFF, RF64, WAV, FileKind

MOST_CHUNKS = 10_000  # that are looked at: bounds the time for hostile files
# What may stand where a chunk of odd size ends without its padding.
WAV_CHUNKS = frozenset(
    (b"fmt ", b"data", b"LIST", b"fact", b"JUNK", b"bext", b"PEAK", b"cue ", b"smpl", b"iXML", b"id3 ")
)
AIFF_CHUNKS = frozenset(
    (b"COMM", b"SSND", b"NAME", b"AUTH", b"ANNO", b"MARK", b"FVER", b"INST", b"COMT", b"ID3 ")
)


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    size: int  # as written
    begins: int  # of its contents


def plain_file(data: bytes, kind: FileKind) -> bytes | None:
    """Return a file that says the same in a way that every reader follows; None where `data` needs no change."""
    if kind.name == AIFF.name:
        return _padded(data, kind.offset, ">4sI", AIFF_CHUNKS)
    if kind.name not in (WAV.name, RF64.name) or data[kind.offset : kind.offset + 4] == b"RIFX":
        return None
    padded = _padded(data, kind.offset, "<4sI", WAV_CHUNKS)
    return _one_chunk_of_samples(data if padded is None else padded, kind.offset) or padded


def _chunks(data: bytes, start: int) -> Iterator[_Chunk]:
    position = start + 12
    for _ in range(MOST_CHUNKS):
        if position + 8 > len(data):
            return
        name, size = struct.unpack_from("<4sI", data, position)
        yield _Chunk(name, size, position + 8)
        # Into a list of chunks of samples, and over every other chunk.
        inside = name == b"LIST" and data[position + 8 : position + 12] == b"wavl"
        position += 12 if inside else 8 + size + (size & 1)


def _padded(data: bytes, start: int, layout: str, known: frozenset[bytes]) -> bytes | None:
    """Insert the byte behind each chunk of odd size where the next one begins without it."""
    position, unpadded = start + 12, [0]
    for _ in range(MOST_CHUNKS):
        if position + 8 > len(data):
            break
        name, size = struct.unpack_from(layout, data, position)
        position += 8 + size
        if name in (b"data", b"SSND"):
            break
        if size & 1 and data[position : position + 4] in known:
            unpadded.append(position)
        elif size & 1:
            position += 1
    if len(unpadded) == 1:
        return None
    return b"\0".join(data[begin:end] for begin, end in itertools.pairwise([*unpadded, len(data)]))


def _one_chunk_of_samples(data: bytes, start: int) -> bytes | None:
    """Join the chunks of samples into one; read RF64 of open size to its end."""
    form = b""
    samples: list[slice] = []  # nothing is copied of a file that needs no change
    listed = unsized = False
    sizes: int | None = None  # of the samples, from ds64
    for chunk in _chunks(data, start):
        if chunk.name == b"fmt " and not form:
            form = data[chunk.begins : chunk.begins + chunk.size]
        elif chunk.name == b"ds64" and chunk.begins + 16 <= len(data):
            sizes = struct.unpack_from("<Q", data, chunk.begins + 8)[0]
        elif chunk.name == b"LIST":
            listed = listed or data[chunk.begins : chunk.begins + 4] == b"wavl"
        elif chunk.name == b"data":
            if chunk.size == 0xFFFFFFFF and data[start : start + 4] in (b"RF64", b"BW64"):
                unsized = sizes in (None, 0) or (sizes or 0) >= 1 << 63
                samples.append(slice(chunk.begins, len(data) if unsized else chunk.begins))
                break
            listed = listed or (not chunk.size and data[chunk.begins : chunk.begins + 4] == b"data")
            if chunk.begins + chunk.size > len(data) or not (chunk.size or listed):
                break
            samples.append(slice(chunk.begins, chunk.begins + chunk.size))
        elif chunk.name in (b"RIFF", b"RF64", b"BW64"):  # another file
            break
    if not form or not (unsized or (samples and (listed or len(samples) > 1))):
        return None
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + bytes(len(form) & 1)
    joined = b"".join(data[part] for part in samples)
    body += b"data" + struct.pack("<I", len(joined)) + joined
    return data[:start] + b"RIFF" + struct.pack("<I", len(body)) + body
