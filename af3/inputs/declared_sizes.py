"""The sizes that less common containers declare, by which a truncated file is known."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

# A program that writes to a pipe cannot know the size and writes 0 or nearly 2 or 4 GiB (SoX 0x7ffff000, ElevenLabs
# 0x7fffffff, ffmpeg 0xffffffff, others 2 000 000 000, with or without the header). No upload is that large.
PLACEHOLDER_BYTES = 0x7000_0000
MOST_STEPS = 200_000  # blocks that are looked at: bounds the time for hostile files
TOLERATED_BYTES = 64  # padding that is counted and not written
VOC_PLACEHOLDER = 0xFF_0000  # of three bytes
TTA_HEADER_BYTES, TTA_FRAME = 22, 256 / 245  # seconds of a frame
NIST_FIELDS = re.compile(rb"(?m)^(sample_count|sample_n_bytes|channel_count) -i (\d{1,10})$")


def missing(data: bytes, kind: str, start: int) -> str | None:
    """What is missing of a file of `kind` (`FileKind.name`) that begins at `start`; None for a complete one."""
    declared = _DECLARED.get(kind)
    if declared is None:
        return None
    size = declared(data, start)
    present = len(data) - start
    return f"{present} of {size} bytes" if present + TOLERATED_BYTES < size < PLACEHOLDER_BYTES else None


def _field(layout: str, at: int, more: int = 0) -> Callable[[bytes, int], int]:
    """A size that stands at one place; more: bytes that it does not count."""

    def found(data: bytes, start: int) -> int:
        if len(data) < start + at + struct.calcsize(layout):
            return 0
        size: int = struct.unpack_from(layout, data, start + at)[0]
        return size + more if size > 0 else 0

    return found


def _voc(data: bytes, start: int) -> int:
    """The end of the last block: a type and a size of three bytes each."""
    position = start + int.from_bytes(data[start + 20 : start + 22], "little")
    for _ in range(MOST_STEPS):
        size = int.from_bytes(data[position + 1 : position + 4], "little")
        if position + 4 > len(data) or data[position] == 0 or size == 0 or size >= VOC_PLACEHOLDER:
            return 0
        position += 4 + size
        if position > len(data):
            return position - start
    return 0


def _wavpack(data: bytes, start: int) -> int:
    position = start
    for _ in range(MOST_STEPS):
        if not data.startswith(b"wvpk", position) or position + 8 > len(data):
            return 0
        position += 8 + struct.unpack_from("<I", data, position + 4)[0]
        if position > len(data):
            return position - start
    return 0


def _tta(data: bytes, start: int) -> int:
    """Add up the table of frame sizes behind the header."""
    if len(data) < start + TTA_HEADER_BYTES:
        return 0
    rate, samples = struct.unpack_from("<II", data, start + 10)
    frames = -(-samples // max(1, int(rate * TTA_FRAME)))
    table = start + TTA_HEADER_BYTES
    behind = table + 4 * frames + 4
    if frames > MOST_STEPS or behind > len(data):
        return 0
    return behind - start + sum(struct.unpack_from(f"<{frames}I", data, table))


def _nist(data: bytes, start: int) -> int:
    header = data[start : start + 1024]
    fields = {name: int(value) for name, value in NIST_FIELDS.findall(header)}
    header_bytes = re.match(rb"NIST_1A\n\s*(\d{1,6})\n", header)
    if header_bytes is None or b"shorten" in header or len(fields) < len(_NIST_NEEDED):
        return 0
    count, sample_bytes, channels = (fields[name] for name in _NIST_NEEDED)
    return int(header_bytes[1]) + count * sample_bytes * channels


def _sox(data: bytes, start: int) -> int:
    """SoX's own format: 32-bit samples, in the order of bytes that the first four tell."""
    if len(data) < start + 16:
        return 0
    order = "<" if data.startswith(b".SoX", start) else ">"
    header_bytes, samples = struct.unpack_from(f"{order}IQ", data, start + 4)
    return 4 + header_bytes + 4 * samples if samples else 0


def _flv(data: bytes, start: int) -> int:
    """The size among the metadata, if the last tag is cut too: programs that edit a file may leave the old size."""
    found = re.search(rb"filesize\x00(.{8})", data[start : start + 4096], re.DOTALL)
    size: float = struct.unpack(">d", found[1])[0] if found else 0.0
    if not 0 < size < PLACEHOLDER_BYTES:
        return 0
    position = start + 13  # header, and the size of no tag
    for _ in range(MOST_STEPS):
        if position + 11 > len(data):
            break
        position += 15 + int.from_bytes(data[position + 1 : position + 4], "big")
    return int(size) if position != len(data) else 0


_NIST_NEEDED = (b"sample_count", b"sample_n_bytes", b"channel_count")
_DECLARED: dict[str, Callable[[bytes, int], int]] = {
    "VOC": _voc,
    "WavPack": _wavpack,
    "TTA": _tta,
    "NIST SPHERE": _nist,
    "SoX's own format": _sox,
    "FLV": _flv,
    "8SVX or 16SV": _field(">I", 4, 8),
    "MAUD": _field(">I", 4, 8),
    "SMAF, a ringtone": _field(">I", 4, 8),
    "AST": _field(">I", 4, 64),
}
