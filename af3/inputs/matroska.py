"""Reads the elements of WebM and Matroska (RFC 8794, RFC 9559) that say whether a file is whole and what it holds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

SEGMENT, TRACKS, TRACK, CODEC = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\x86"
ANY_TRACKS = re.compile(b"(?<!\x53\xab\x84)" + re.escape(TRACKS), re.DOTALL)  # but for the entry in the index
UNKNOWN_SIZE = (1 << 56) - 1
MOST_ELEMENTS = 1_000  # of a track list that is looked at


def missing(data: bytes) -> str | None:
    """What is missing of a truncated file, if the writer knew the size; a browser's recorder does not."""
    size, begins = _size(data, 4)
    position = begins + size
    if data[position : position + 4] != SEGMENT:
        return None
    size, begins = _size(data, position + 4)
    present = len(data) - begins
    if size == UNKNOWN_SIZE or size <= present:
        return None
    return f"{present} of {size} bytes of its Segment"


def only_codec(data: bytes) -> str | None:
    """The codec of the only track, such as `A_OPUS`; None where there are more tracks, or any doubt."""
    lists = list(itertools.islice(ANY_TRACKS.finditer(data), 2))
    if len(lists) != 1:
        return None
    size, begins = _size(data, lists[0].end())
    tracks = [place for name, *place in _elements(data, begins, begins + size) if name == TRACK]
    if len(tracks) != 1:
        return None
    codecs = [data[start:end] for name, start, end in _elements(data, *tracks[0]) if name == CODEC]
    return codecs[0].decode("ascii", "replace") if len(codecs) == 1 else None


def _elements(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the contents of each element between `at` and `end`."""
    for _ in range(MOST_ELEMENTS):
        if at >= end or at >= len(data):
            return
        name_bytes = 9 - data[at].bit_length()
        size, start = _size(data, at + name_bytes)
        yield data[at : at + name_bytes], start, start + size
        at = start + size


def _size(data: bytes, at: int) -> tuple[int, int]:
    """Read a variable-length size and its end; all ones means UNKNOWN_SIZE."""
    length = 9 - data[at : at + 1][0].bit_length() if data[at : at + 1] else 9
    if length > 8:
        return 0, at + 1
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    return (UNKNOWN_SIZE if value == (1 << 7 * length) - 1 else value), at + length
