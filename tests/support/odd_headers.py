"""Files whose headers say what few programs write, and all readers should follow; made here from one tone."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Literal

import numpy as np

from tests.support.odd_files import ID3, ape_tag, written

RATE_HZ, FRAMES = 16_000, 9_600
TIMES = np.arange(FRAMES) / RATE_HZ
TONE = 0.4 * np.sin(2 * np.pi * (300 + 200 * TIMES) * TIMES)
LITTLE, BIG = ((TONE * 32_767).astype(order).tobytes() for order in ("<i2", ">i2"))
UNSIGNED = (TONE * 127 + 128).astype(np.uint8).tobytes()
SIGNED = (TONE * 127).astype(np.int8).tobytes()
# What one nibble adds to the sample before, in Fibonacci's numbers (Amiga's 8SVX).
STEPS = (-34, -21, -13, -8, -5, -3, -2, -1, 0, 1, 2, 3, 5, 8, 13, 21)


def odd_headers() -> dict[str, bytes]:
    """Name with the true extension → a whole file."""
    return _wavs() | _aiffs() | _cafs_and_aus() | _vocs() | _amigas() | _mp3s() | _flacs() | _oggs()


def _integers(bits: int, order: Literal["little", "big"]) -> bytes:
    largest = 2 ** (bits - 1) - 1
    return b"".join(int(sample * largest).to_bytes(bits // 8, order, signed=True) for sample in TONE)


def _chunk(layout: str) -> Callable[..., bytes]:
    def chunk(name: bytes, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return name + struct.pack(layout, len(content)) + content + bytes(len(content) & 1)

    return chunk


_little, _big = _chunk("<I"), _chunk(">I")


def _wav(form: bytes, samples: bytes, *between: bytes) -> bytes:
    return _little(b"RIFF", b"WAVE", _little(b"fmt ", form), *between, _little(b"data", samples))


def _form(tag: int, channels: int, bits: int, block: int | None = None) -> bytes:
    block = block or channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, RATE_HZ, RATE_HZ * block, block, bits)


def _extensible(channels: int, bits: int, valid: int, mask: int, tag: int) -> bytes:
    guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
    return _form(0xFFFE, channels, bits) + struct.pack("<HHI", 22, valid, mask) + guid


def _wavs() -> dict[str, bytes]:
    eight = np.repeat((TONE * 32_767).astype("<i2")[:, None], 8, axis=1).tobytes()
    return {
        "wav_32.wav": _wav(_form(1, 1, 32), _integers(32, "little")),
        "wav_double.wav": _wav(_extensible(1, 64, 64, 4, 3), TONE.astype("<f8").tobytes()),
        "wav_no_mask.wav": _wav(_extensible(1, 16, 16, 0, 1), LITTLE),
        "wav_12_bits.wav": _wav(_form(1, 1, 12, 2), LITTLE),
        "wav_8_channels.wav": _wav(_extensible(8, 16, 16, 0x63F, 1), eight),
        "wav_8_channels_plain.wav": _wav(_form(1, 8, 16), eight),
        "wav_cue_and_smpl.wav": _wav(
            _form(1, 1, 16), LITTLE, _little(b"cue ", bytes(28)), _little(b"smpl", bytes(36))
        ),
        "wav_ixml.wav": _wav(_form(1, 1, 16), LITTLE, _little(b"iXML", b" " * 70_001)),
        "wav_aligned.wav": _wav(_form(1, 1, 16), LITTLE, _little(b"FLLR", bytes(4_044))),
    }


def _extended(value: float) -> bytes:
    """A rate in the 80 bits of AIFF."""
    mantissa, exponent = math.frexp(value)
    return struct.pack(">HQ", 16_382 + exponent, int(mantissa * (1 << 64)))


def _aiff(bits: int, samples: bytes, coding: bytes | None = None, *behind: bytes) -> bytes:
    common = (
        struct.pack(">hIh", 1, FRAMES, bits)
        + _extended(RATE_HZ)
        + (b"" if coding is None else coding + b"\0\0")
    )
    kind = b"AIFF" if coding is None else b"AIFC"
    return _big(b"FORM", kind, _big(b"COMM", common), _big(b"SSND", bytes(8), samples), *behind)


def _aiffs() -> dict[str, bytes]:
    return {
        "aiff_names_and_marks.aiff": _aiff(16, BIG, None, _big(b"ANNO", b"x" * 7), _big(b"ID3 ", ID3[:10])),
        "aifc_none.aifc": _aiff(16, BIG, b"NONE"),
        "aifc_twos.aifc": _aiff(16, BIG, b"twos"),
        "aifc_sowt.aifc": _aiff(16, LITTLE, b"sowt"),
        "aifc_fl32.aifc": _aiff(32, TONE.astype(">f4").tobytes(), b"fl32"),
        "aifc_fl64.aifc": _aiff(64, TONE.astype(">f8").tobytes(), b"fl64"),
        "aifc_in24.aifc": _aiff(24, _integers(24, "big"), b"in24"),
        "aifc_raw.aifc": _aiff(8, UNSIGNED, b"raw "),
    }


def _caf(flags: int, bits: int, samples: bytes, *between: bytes, size: int | None = None) -> bytes:
    form = struct.pack(">d4sIIIII", RATE_HZ, b"lpcm", flags, bits // 8, 1, 1, bits)
    length = struct.pack(">q", len(samples) + 4 if size is None else size)
    return (
        b"caff\0\1\0\0desc"
        + struct.pack(">q", 32)
        + form
        + b"".join(between)
        + b"data"
        + length
        + bytes(4)
        + samples
    )


def _au(coding: int, samples: bytes, header: int = 24) -> bytes:
    return (
        b".snd"
        + struct.pack(">IIIII", header, len(samples), coding, RATE_HZ, 1)
        + bytes(header - 24)
        + samples
    )


def _cafs_and_aus() -> dict[str, bytes]:
    free = b"free" + struct.pack(">q", 4_000) + bytes(4_000)
    return {
        "caf_big.caf": _caf(0, 16, BIG),
        "caf_float.caf": _caf(3, 32, TONE.astype("<f4").tobytes()),
        "caf_free_in_front.caf": _caf(2, 16, LITTLE, free),
        "caf_open.caf": _caf(2, 16, LITTLE, size=-1),
        "au_8.au": _au(2, SIGNED),
        "au_24.au": _au(4, _integers(24, "big")),
        "au_double.au": _au(7, TONE.astype(">f8").tobytes()),
        "au_long_header.au": _au(3, BIG, 400),
    }


def _voc(*blocks: bytes, end: bytes = b"\0") -> bytes:
    return b"Creative Voice File\x1a" + struct.pack("<HHH", 26, 0x010A, 0x1129) + b"".join(blocks) + end


def _block(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(3, "little") + content


def _vocs() -> dict[str, bytes]:
    rate = 256 - 1_000_000 // RATE_HZ
    half = FRAMES // 2
    first = _block(1, bytes([rate, 0]) + UNSIGNED[:half])
    return {
        "voc_not_ended.voc": _voc(_block(1, bytes([rate, 0]) + UNSIGNED), end=b""),
        "voc_continued.voc": _voc(first, _block(2, UNSIGNED[half:])),
        "voc_silence_between.voc": _voc(first, _block(3, struct.pack("<HB", 7_999, rate)), first),
        "voc_16_bits.voc": _voc(_block(9, struct.pack("<IBBHI", RATE_HZ, 16, 1, 4, 0) + LITTLE)),
        "voc_text_in_front.voc": _voc(_block(5, b"abc\0"), first, first),
    }


def _amigas() -> dict[str, bytes]:
    """8SVX, plain and with differences of Fibonacci's numbers."""
    sample, nibbles = int(SIGNED[0]), []
    for wanted in np.frombuffer(SIGNED, np.int8):
        nibble = min(range(16), key=lambda at: abs(int(wanted) - sample - STEPS[at]))
        sample += STEPS[nibble]
        nibbles.append(nibble)
    packed = bytes([0, SIGNED[0]]) + bytes(
        a << 4 | b for a, b in zip(nibbles[::2], nibbles[1::2], strict=True)
    )

    def form(coding: int, body: bytes) -> bytes:
        head = struct.pack(">IIIHBBI", len(body), 0, 0, RATE_HZ, 1, coding, 65_536)
        return _big(b"FORM", b"8SVX", _big(b"VHDR", head), _big(b"BODY", body))

    return {"svx_plain.8svx": form(0, SIGNED), "svx_fibonacci.8svx": form(1, packed)}


def _id3(version: int, content: bytes, flags: int = 0) -> bytes:
    size = len(content)
    return (
        b"ID3"
        + bytes([version, 0, flags, size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
        + content
    )


def _mp3s() -> dict[str, bytes]:
    tagged, bare = written("lame_cbr.mp3"), written("ff_noxing.mp3")
    picture = (
        b"APIC" + struct.pack(">I", 8_000) + b"\0\0\0image/jpeg\0\3\0" + (b"\xff\xfb\x90\x64" * 2_000)[:7_987]
    )
    words = b"LYRICSBEGININD00003000LYR00010la la la l"
    words += f"{len(words):06d}".encode() + b"LYRICS200"
    old = b"TAG" + b"x" * 125
    with_footer = _id3(4, bytes(30), 0x90) + b"3DI\4\0\x90\0\0\0\x1e"  # and unsynchronised
    return {
        "mp3_frames_in_a_picture.mp3": _id3(3, picture) + tagged,
        "mp3_frames_in_a_picture_bare.mp3": _id3(3, picture) + bare,
        "mp3_id3_of_2_2.mp3": _id3(2, bytes(300)) + tagged,
        "mp3_id3_extended.mp3": _id3(4, b"\0\0\0\6\1\0" + bytes(100), 0x40) + tagged,
        "mp3_id3_larger_than_said.mp3": _id3(3, bytes(50)) + bytes(200) + tagged,
        "mp3_lyrics3.mp3": tagged + words + old,
        "mp3_enhanced_tag.mp3": tagged + b"TAG+" + bytes(223) + old,
        "mp3_every_tag.mp3": with_footer + written("lame_vbr.mp3") + ape_tag() + words + old,
    }


def _flacs() -> dict[str, bytes]:
    """Blocks of metadata behind STREAMINFO."""
    flac = written("flac.flac")

    def with_block(kind: int, content: bytes) -> bytes:
        head = bytes([flac[4] & 127]) + flac[5:42]
        return flac[:4] + head + bytes([kind]) + len(content).to_bytes(3, "big") + content + flac[42:]

    return {
        "flac_padding.flac": with_block(1, bytes(100_000)),
        "flac_application.flac": with_block(2, b"riff" + bytes(100)),
        "flac_seek_placeholders.flac": with_block(3, (b"\xff" * 8 + bytes(10)) * 5),
        "flac_unknown_block.flac": with_block(80, bytes(30)),
        "flac_frames_in_a_picture.flac": with_block(6, bytes(32) + b"\xff\xf8\x69\x98" * 1_000),
        "flac_ape_behind.flac": flac + ape_tag(),
    }


def _oggs() -> dict[str, bytes]:
    vorbis = written("oggenc.ogg")
    return {"ogg_behind_id3.ogg": _id3(3, bytes(500)) + vorbis}
