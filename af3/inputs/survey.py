"""Checks a file's headers before decoding: is it complete, and can libsndfile read all of it?

For a truncated file, or one joined from several, decoders often return a shorter clip without an error.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from af3.inputs import declared_sizes, matroska, mp3_frames
from af3.inputs.declared_sizes import MOST_STEPS, PLACEHOLDER_BYTES
from af3.inputs.file_kind import (
    AIFF,
    ASF,
    AU,
    AVI,
    CAF,
    DSF,
    FLAC,
    MATROSKA,
    MP3,
    MP4,
    OGG,
    RF64,
    W64,
    WAV,
    FileKind,
)

TOLERATED_S = 0.01  # a size that is wrong by less than a mel frame loses nothing audible
BEGINS, ENDS = 2, 4  # flags of an Ogg page
OGG_HEADER_BYTES = 27
ASF_DATA = b"\x36\x26\xb2\x75\x8e\x66\xcf\x11"
AVI_TOLERATED = 4096


@dataclass(frozen=True)
class Survey:
    """missing: what is missing of a truncated file; None for a complete one. joined: libsndfile reads only its first
    part. frames: samples per channel, None when unknown.
    size_at: offset of the data size of 0 of a WAV or AU, which libsndfile believes, and the bytes that it should have.
    unclosed: the file ends like a live capture, or like one cut between two pages; they look the same.
    """

    missing: str | None = None
    joined: bool = False
    frames: int | None = None
    size_at: tuple[int, bytes] | None = None
    unclosed: bool = False


def survey(data: bytes, kind: FileKind) -> Survey:
    """Check the headers of a whole file of `kind`."""
    if kind.name in (WAV.name, RF64.name) and data[:4] != b"RIFX":
        return _wav(data, kind.offset)
    if kind.name == OGG.name:
        return _ogg(data, kind.offset)
    if kind.name == MP3.name:
        return _mp3(data)
    if kind.name == FLAC.name:
        return _flac(data, kind.offset)
    if kind.name == AIFF.name:
        return Survey(missing=_chunks(data, kind.offset + 12, ">4sI", b"SSND"))
    if kind.name == AU.name:
        return _au(data, kind.offset)
    if kind.name == CAF.name:
        return Survey(missing=_chunks(data, kind.offset + 8, ">4sq", b"data"))
    if kind.name == MP4.name:
        return Survey(missing=_mp4(data, kind.offset))
    if kind.name == W64.name:
        return Survey(missing=_objects(data, kind.offset + 40, b"data", 8))
    if kind.name == ASF.name:
        return Survey(missing=_objects(data, kind.offset, ASF_DATA, 1))
    if kind.name == AVI.name:
        return Survey(missing=_avi(data, kind.offset))
    if kind.name == DSF.name:
        return Survey(missing=_dsf(data, kind.offset))
    if kind.name == MATROSKA.name:
        return Survey(missing=matroska.missing(data))
    return Survey(missing=declared_sizes.missing(data, kind.name, kind.offset))


def _wav(data: bytes, start: int) -> Survey:
    position = start + 12
    bytes_per_s = 0
    long_size = 0  # from the ds64 chunk of RF64 and BW64, whose data chunk says 0xffffffff
    while position + 8 <= len(data):
        chunk, size = struct.unpack_from("<4sI", data, position)
        if chunk == b"data":
            present = len(data) - position - 8
            if size == 0 and present > 0:
                return Survey(size_at=(position + 4, present.to_bytes(4, "little")))
            size = long_size if size == 0xFFFFFFFF and long_size else size
            tolerated = max(position + 8 - start, TOLERATED_S * bytes_per_s)
            if present + tolerated < size < PLACEHOLDER_BYTES:
                return Survey(missing=f"{present} of {size} bytes of samples")
            return Survey()
        if chunk == b"fmt " and position + 24 <= len(data):
            bytes_per_s = struct.unpack_from("<I", data, position + 16)[0]
        if chunk == b"ds64" and position + 24 <= len(data):
            long_size = struct.unpack_from("<Q", data, position + 16)[0]
        position += 8 + size + (size & 1)
    return Survey(missing="no samples after the WAV header")


def _chunks(data: bytes, position: int, layout: str, samples: bytes) -> str | None:
    """Walk IFF-like chunks, padded to even sizes in AIFF; a size of 0, -1 or nearly 2 GiB means the rest."""
    header = struct.calcsize(layout)
    while position + header <= len(data):
        chunk, size = struct.unpack_from(layout, data, position)
        present = len(data) - position - header
        if chunk == samples:
            cut = present + header < size < PLACEHOLDER_BYTES
            return f"{present} of {size} bytes of samples" if cut else None
        if size < 0:
            return None
        position += header + size + (size & 1 if header == 8 else 0)
    return "no samples after the header"


def _au(data: bytes, start: int) -> Survey:
    if len(data) < start + 24:
        return Survey(missing="no samples after the header")
    begins, size = struct.unpack_from(">II", data, start + 4)
    present = len(data) - start - begins
    if size == 0 and present > 0:
        return Survey(size_at=(start + 8, present.to_bytes(4, "big")))
    if present + begins < size < PLACEHOLDER_BYTES:
        return Survey(missing=f"{present} of {size} bytes of samples")
    return Survey()


def _ogg(data: bytes, position: int) -> Survey:
    """Walk the pages of RFC 3533. An unclosed stream counts as complete when its last page is, as in live captures."""
    streams, flags = 0, 0
    while (position := data.find(b"OggS", position)) >= 0:
        if position + OGG_HEADER_BYTES > len(data):
            return Survey(missing="the last Ogg page is cut", joined=streams > 1)
        flags, segments = data[position + 5], data[position + 26]
        streams += bool(flags & BEGINS)  # several streams: a chain, or audio beside video
        table = position + OGG_HEADER_BYTES
        position = table + segments + sum(data[table : table + segments])
        if position > len(data):
            return Survey(missing="the last Ogg page is cut", joined=streams > 1)
    return Survey(joined=streams > 1, unclosed=not flags & ENDS)


def _flac(data: bytes, start: int) -> Survey:
    """Read the 36-bit sample count of STREAMINFO (0: unknown)."""
    return Survey(frames=int.from_bytes(data[start + 21 : start + 26], "big") & (1 << 36) - 1 or None)


def _mp3(data: bytes) -> Survey:
    frames = mp3_frames.count_frames(data)
    if frames is None:
        return Survey()
    missing = None
    if frames.missing > 1:  # some writers count the tag's own frame
        missing = f"{frames.count} of {frames.promised} MP3 frames"
    return Survey(missing, frames.mixed, None if frames.mixed else frames.samples)


def _mp4(data: bytes, position: int) -> str | None:
    """Walk the boxes of ISO 14496-12."""
    index = False
    while position + 8 <= len(data):
        size, box = struct.unpack_from(">I4s", data, position)
        if size == 1 and position + 16 <= len(data):
            size = struct.unpack_from(">Q", data, position + 8)[0]
        index = index or box in (b"moov", b"moof")
        if size == 0:
            break
        if size < 8:
            return None  # not a box: data after the last one does not matter
        if position + size > len(data) and box in (b"moov", b"moof", b"mdat"):
            return f"{len(data) - position} of {size} bytes of its {box.decode()} part"
        position += size
    return None if index else "its index, the moov part, is missing"


def _objects(data: bytes, position: int, samples: bytes, whole: int) -> str | None:
    """Check objects of a GUID and a size of 8 bytes that includes both, padded to `whole` bytes: Wave64 and ASF."""
    for _ in range(MOST_STEPS):
        if position + 24 > len(data):
            return None
        size = struct.unpack_from("<Q", data, position + 16)[0]
        if data.startswith(samples, position):
            present = len(data) - position
            return f"{present} of {size} bytes of samples" if present < size < PLACEHOLDER_BYTES else None
        if size < 24:
            return None
        position += -(-size // whole) * whole
    return None


def _avi(data: bytes, start: int) -> str | None:
    """Check the size of the first RIFF chunk; it is 0 if the program could not seek back."""
    size = int.from_bytes(data[start + 4 : start + 8], "little")
    present = len(data) - start - 8
    return f"{present} of {size} bytes" if present + AVI_TOLERATED < size < PLACEHOLDER_BYTES else None


def _dsf(data: bytes, start: int) -> str | None:
    """Check the size of the whole file, which the first chunk gives."""
    size = int.from_bytes(data[start + 12 : start + 20], "little")
    present = len(data) - start
    return f"{present} of {size} bytes" if present < size else None
