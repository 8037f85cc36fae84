"""Does a file hold all that its own headers promise? Decoders often answer a cut file with a shorter clip."""

from __future__ import annotations

import struct

from af3.errors import invalid

STREAMED_SIZES = (0, 0xFFFFFFFF)  # a WAV written to a pipe: the writer did not know the size
OGG_END_OF_STREAM = 0x04
OGG_HEADER_BYTES = 27


def refuse_truncated(data: bytes, name: str) -> None:
    """Raise RequestError when a WAV or an OGG ends before its headers say it does.

    FLAC and MP3 carry their length in frames; `af3.inputs.audio` compares it while decoding.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        _refuse_truncated_wav(data, name)
    if data[:4] == b"OggS" and not _last_ogg_page_ends_stream(data):
        raise invalid(f"{name}: the file is cut short (no last OGG page); send the whole file")


def _refuse_truncated_wav(data: bytes, name: str) -> None:
    position = 12
    while position + 8 <= len(data):
        chunk, size = struct.unpack_from("<4sI", data, position)
        if chunk == b"data":
            present = len(data) - position - 8
            if size not in STREAMED_SIZES and size > present:
                raise invalid(
                    f"{name}: the file is cut short ({present} of {size} bytes of samples); send the whole file"
                )
            return
        position += 8 + size + (size & 1)
    raise invalid(f"{name}: the file is cut short (no samples after the WAV header); send the whole file")


def _last_ogg_page_ends_stream(data: bytes) -> bool:
    """Ogg pages (RFC 3533): the last one has its end-of-stream flag set and all its segments present."""
    start = data.rfind(b"OggS")
    if start + OGG_HEADER_BYTES > len(data) or not data[start + 5] & OGG_END_OF_STREAM:
        return False
    segments = data[start + 26]
    table = data[start + OGG_HEADER_BYTES : start + OGG_HEADER_BYTES + segments]
    return len(data) >= start + OGG_HEADER_BYTES + segments + sum(table)
