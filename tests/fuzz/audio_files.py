"""Audio files a client might send: good ones of every format, and what accidents and malice make of them."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Callable
from random import Random

import numpy as np
import soundfile

KINDS = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "IMA_ADPCM", "GSM610"),
    "WAVEX": ("PCM_16", "FLOAT"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS", "OPUS"),
    "MP3": ("MPEG_LAYER_III",),
    "AIFF": ("PCM_16",),
    "AU": ("PCM_16",),
    "W64": ("PCM_16",),
    "CAF": ("PCM_16",),
}
# What the encoders are sure to take: libsndfile's own may crash of the rest, which is no test of the server.
CODED = {"MP3": (16_000, 44_100, 48_000), "OGG": (8_000, 16_000, 48_000)}
RATES = (4_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000, 384_000, 3_999)


def audio_file(random: Random) -> bytes:
    """One element of `audio`."""
    data = _good(random)
    for _ in range(random.choice((0, 0, 1, 1, 2, 3))):
        data = random.choice(MUTATIONS)(data, random)
    return _as_uri(data, random) if random.random() < 0.15 else data


def _good(random: Random) -> bytes:
    kind = random.choice(tuple(KINDS))
    subtype = random.choice(KINDS[kind])
    rate = random.choice(RATES)
    channels = random.choice((1, 1, 1, 2, 2, 6, 64, 65) if rate < 50_000 else (1, 2))
    seconds = random.choice((0.001, 0.01, 0.02, 0.03, 0.2, 0.5, 1.0))
    values = np.random.default_rng(random.getrandbits(32)).uniform(-1, 1, (round(seconds * rate), channels))
    if kind in CODED and not (channels <= 2 and rate in CODED[kind]):
        rate, values = random.choice(CODED[kind]), values[:, :2]
    if subtype in ("FLOAT", "DOUBLE") and values.size and random.random() < 0.3:
        values.flat[random.randrange(values.size)] = random.choice((np.nan, np.inf, -np.inf, 1e38, 1e300))
    file = io.BytesIO()
    try:
        soundfile.write(file, values, rate, format=kind, subtype=subtype)
    except Exception:  # a rate or a number of channels that the format does not know
        return wav_header(random) + values.astype("<f4").tobytes()
    return file.getvalue()


def wav_header(random: Random) -> bytes:
    """A WAV header that says anything."""
    words = [random.choice((0, 1, 2, 8, 16, 0xFFFF, random.getrandbits(16))) for _ in range(4)]
    sizes = [random.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, random.getrandbits(32))) for _ in range(5)]
    fields = (b"RIFF", sizes[0], b"WAVE", b"fmt ", sizes[1] if random.random() < 0.3 else 16)
    rest = (words[0], words[1], sizes[2], sizes[3], words[2], words[3], b"data", sizes[4])
    return struct.pack("<4sI4s4sI", *fields) + struct.pack("<HHIIHH4sI", *rest)


def _flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 2, 8, 64))):
        if changed:
            changed[random.randrange(len(changed))] = random.getrandbits(8)
    return bytes(changed)


def _flip_head(data: bytes, random: Random) -> bytes:
    return _flip(data[:64], random) + data[64:]


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _cut_front(data: bytes, random: Random) -> bytes:
    return data[random.randrange(len(data) + 1) :]


def _insert(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.randbytes(random.choice((1, 4, 100, 5_000))) + data[place:]


def _repeat(data: bytes, random: Random) -> bytes:
    return data * random.choice((2, 3))


def _join(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)] + _good(random)


def _number(data: bytes, random: Random) -> bytes:
    """A 32-bit field becomes an extreme."""
    if len(data) < 48:
        return data
    place = random.randrange(0, 44)
    return (
        data[:place]
        + struct.pack("<I", random.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)))
        + data[place + 4 :]
    )


def _huge_header(data: bytes, random: Random) -> bytes:
    """An ID3 tag, or a chunk of a WAV, that is larger than the sound."""
    size = random.choice((100, 10_000, 300_000))
    if data[:4] == b"RIFF":
        return data[:12] + struct.pack("<4sI", b"LIST", size) + bytes(size) + data[12:]
    sizes = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + sizes + bytes(size) + data


def _nothing(data: bytes, random: Random) -> bytes:
    return random.choice(
        (b"", b"\0", b"RIFF", b"OggS", b"fLaC", b"\xff\xfb", b"{}", "ünïcode".encode(), bytes(4096))
    )


MUTATIONS: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flip,
    _flip_head,
    _cut,
    _cut_front,
    _insert,
    _repeat,
    _join,
    _number,
    _huge_header,
    _nothing,
)


def _as_uri(data: bytes, random: Random) -> bytes:
    text = base64.b64encode(data)
    if random.random() < 0.3 and text:
        text = _flip(text, random)
    head = random.choice(
        (b"data:audio/wav;base64,", b"data:;base64,", b"data:audio/wav,", b"data:", b"DATA:;base64,")
    )
    return head + text
