"""Files with the oddities of the field, made here from whole ones: joined, padded, with wrong sizes."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile

from tests.support.clips import file_bytes, sound
from tests.support.written_files import FOLDER

PLACEHOLDERS = {
    "0": 0,
    "7fffffff": 0x7FFFFFFF,
    "7ffff000": 0x7FFFF000,
    "2e9": 2_000_000_000,
    "80000000": 0x80000000,
    "ffffffff": 0xFFFFFFFF,
    "7fffffff-36": 0x7FFFFFFF - 36,
    "ffffffff-44": 0xFFFFFFFF - 44,
    "7fff0000": 0x7FFF0000,
}
ID3 = b"ID3\x04\x00\x00\x00\x00\x10\x00" + bytes(2048)
# A title in UTF-16, whose byte order mark would look like an MPEG frame: a zero stands between its bytes.
TITLE = b"TIT2\x00\x00\x00\x0b\x00\x00\x01\xff\x00\xfeT\x00i\x00t\x00\x00"
UNSYNCHRONISED = b"ID3\x04\x00\x80\x00\x00\x00" + bytes([len(TITLE)]) + TITLE
WAV_HEADER_BYTES = 44
DSD_HZ = 2_822_400
# The extension of a WAV header: 20 of 24 bits hold samples, on the centre channel, PCM.
VALID_20_BITS = struct.pack("<HHIH", 22, 20, 4, 1) + bytes.fromhex("000000001000800000aa00389b71")


def written(name: str) -> bytes:
    """A committed file."""
    return (FOLDER / name).read_bytes()


def wav_with_size(size: int, riff: int | None = None, seed: int = 1) -> bytes:
    """A 16-bit WAV of 0.5 s whose data chunk says `size`, and its RIFF chunk `riff`."""
    data = bytearray(file_bytes(sound(0.5, seed=seed)))
    struct.pack_into("<I", data, 4, (size + 36) & 0xFFFFFFFF if riff is None else riff)
    struct.pack_into("<I", data, 40, size)
    return bytes(data)


def odd_files() -> dict[str, bytes]:
    """Name with the true extension → a whole file, of which all must be heard."""
    right = len(file_bytes(sound(0.5))) - WAV_HEADER_BYTES
    files = {f"wav_size_{name}.wav": wav_with_size(size) for name, size in PLACEHOLDERS.items()}
    files |= {f"wav_riff_{riff:x}.wav": wav_with_size(right, riff) for riff in (0, 0x7FFFFFFF, 0xFFFFFFFF)}
    files |= {f"wav_size_plus_{more}.wav": wav_with_size(right + more) for more in (1, 2, 8, 36, 44)}
    files["wav_last_byte_missing.wav"] = file_bytes(sound(0.5))[:-1]
    files["wav_stereo_last_bytes_missing.wav"] = file_bytes(sound(0.5, channels=2))[:-3]
    files["wav_list_in_front.wav"] = _with_chunk(b"LIST", 5_000)
    files["wav_junk_odd_size.wav"] = _with_chunk(b"JUNK", 27)
    files["wav_bext.wav"] = _with_chunk(b"bext", 602)
    files |= _wav_layouts() | _other_sizes()
    files["m4a_free_behind.m4a"] = written("ff.m4a") + struct.pack(">I4s", 16, b"free") + bytes(8)
    files["aac_from_within_a_frame.aac"] = written("ff_adts.aac")[333:]
    files["loas_from_within_a_frame.loas"] = written("ff_latm.loas")[222:]
    files["aac_last_frame_cut.aac"] = written("ff_adts.aac")[:-37]
    files["webm_live_cut.webm"] = written("ff_opus_live.webm")[:-700]
    files["ts_from_within_a_packet.ts"] = written("ff.ts")[100:]
    files["ts_of_a_tuner.ts"] = b"".join(
        written("ff.ts")[at : at + 188] + bytes(16) for at in range(0, len(written("ff.ts")), 188)
    )[111:]
    files |= {"dsd.dsf": dsf(_one_bit()), "dsd.dff": dsdiff(_one_bit())}
    files |= _mp3s() | _oggs() | _flacs()
    return files


def _one_bit(seconds: float = 0.4) -> bytes:
    """A tone as one-bit samples, of which each carries the error of those before: DSD64, the first bit lowest."""
    times = np.arange(int(seconds * DSD_HZ)) / DSD_HZ
    wanted = np.cumsum(0.5 + 0.2 * np.sin(2 * np.pi * 440 * times)).astype(np.int64)
    return np.packbits(np.diff(wanted, prepend=0).astype(np.uint8), bitorder="little").tobytes()


def dsf(bits: bytes) -> bytes:
    """Sony's file of DSD, mono."""
    block = 4096
    samples = bits + bytes(-len(bits) % block)
    form = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 1, 1, DSD_HZ, 1, 8 * len(bits), block, 0)
    body = form + struct.pack("<4sQ", b"data", 12 + len(samples)) + samples
    return struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(body), 0) + body


def dsdiff(bits: bytes) -> bytes:
    """Philips' file of DSD, mono; the first bit is the highest."""
    turned = np.packbits(np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")).tobytes()

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">4sQ", name, len(content)) + content + bytes(len(content) & 1)

    properties = (
        b"SND "
        + chunk(b"FS  ", struct.pack(">I", DSD_HZ))
        + chunk(b"CHNL", struct.pack(">H4s", 1, b"C   "))
        + chunk(b"CMPR", b"DSD \x0enot compressed")
    )
    version = chunk(b"FVER", b"\x01\x05\0\0")
    return chunk(b"FRM8", b"DSD " + version + chunk(b"PROP", properties) + chunk(b"DSD ", turned))


def _with_chunk(name: bytes, size: int) -> bytes:
    data = file_bytes(sound(0.5))
    return data[:12] + struct.pack("<4sI", name, size) + bytes(size + (size & 1)) + data[12:]


def _wav_layouts() -> dict[str, bytes]:
    """Chunks that recorders and editors write around the samples."""
    whole = file_bytes(sound(0.5))
    form, samples = whole[12:36], whole[36:]
    of_20_bits = form[:8] + struct.pack("<HHIIHH", 0xFFFE, 1, 16_000, 48_000, 3, 24) + VALID_20_BITS
    as_24_bits = b"".join(b"\0" + whole[at : at + 2] for at in range(WAV_HEADER_BYTES, len(whole), 2))
    return {
        "wav_list_before_fmt.wav": _riff(
            b"LIST", struct.pack("<I", 20), b"INFOISFT", bytes(12), form, samples
        ),
        "wav_bext_before_fmt.wav": _riff(b"bext", struct.pack("<I", 602), bytes(602), form, samples),
        "wav_axml_behind.wav": _riff(form, samples, b"axml", struct.pack("<I", 500), b"<x>" * 166, b"  "),
        "wav_20_in_24_bits.wav": _riff(
            of_20_bits.replace(b"fmt \x10", b"fmt \x28"),
            b"data",
            struct.pack("<I", len(as_24_bits)),
            as_24_bits,
        ),
        "wav_12345_hz.wav": file_bytes(sound(0.5, 12_345), 12_345),
        "wav_192000_hz.wav": file_bytes(sound(0.4, 192_000), 192_000),
        "wav_fact.wav": whole[:36] + b"fact" + struct.pack("<II", 4, 8_000) + whole[36:],
        "wav_fmt_18.wav": whole[:16] + struct.pack("<I", 18) + whole[20:36] + bytes(2) + whole[36:],
        "wav_junk_behind.wav": whole + b"junkdata" * 40,
        "wav_id3_behind.wav": whole + b"id3 " + struct.pack("<I", 10) + bytes(10),
    }


def _riff(*parts: bytes) -> bytes:
    body = b"WAVE" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _other_sizes() -> dict[str, bytes]:
    """AIFF, CAF and AU as programs write them that cannot seek, or that write the header last."""
    aiff, caf, au = (bytearray(written(name)) for name in ("sox_24.aiff", "ff_pcm.caf", "sox.au"))
    common, sound_data = aiff.index(b"COMM"), aiff.index(b"SSND")
    length = 8 + int.from_bytes(aiff[common + 4 : common + 8], "big")
    struct.pack_into(">q", caf, caf.index(b"data") + 4, -1)
    struct.pack_into(">I", au, 8, 0xFFFFFFFF)
    return {
        "aiff_header_last.aiff": bytes(
            aiff[:common]
            + aiff[common + length : sound_data]
            + aiff[sound_data:]
            + aiff[common : common + length]
        ),
        "caf_size_unknown.caf": bytes(caf),
        "au_size_unknown.au": bytes(au),
    }


def ape_tag() -> bytes:
    """An APE tag of one item, with header and footer."""
    item = struct.pack("<II", 1, 0) + b"a\0b"
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8)
        for flags in (0xA0000000, 0x80000000)
    )
    return head + item + foot


def _mp3s() -> dict[str, bytes]:
    tagged, bare = written("lame_cbr.mp3"), written("ff_noxing.mp3")
    pipe, mono = written("ff_pipe_44100_64k.mp3"), written("ff_pipe_48000_64k.mp3")
    random = np.random.default_rng(0).integers(0, 255, 3_000, np.uint8).tobytes().replace(b"\xff", b"\x00")
    return {
        "mp3_xing_xing.mp3": tagged * 2,
        "mp3_xing_three_times.mp3": tagged * 3,
        "mp3_bare_bare.mp3": bare * 2,
        "mp3_xing_bare.mp3": tagged + bare,
        "mp3_bare_xing.mp3": bare + tagged,
        "mp3_id3_between.mp3": ID3 + tagged + ID3 + tagged,
        "mp3_bare_id3_between.mp3": bare + ID3 + bare,
        "mp3_id3v1_between.mp3": tagged + b"TAG" + bytes(125) + tagged,
        "mp3_vbr_joined.mp3": written("lame_vbr.mp3") * 2,
        "mp3_mono_then_stereo.mp3": pipe + bare,
        "mp3_stereo_then_mono.mp3": bare + pipe,
        "mp3_rate_changes.mp3": pipe + mono,
        "mp3_zeros_in_front.mp3": bytes(4_000) + bare,
        "mp3_junk_in_front.mp3": random + bare,
        "mp3_junk_in_front_tagged.mp3": random + tagged,
        "mp3_id3_twice.mp3": ID3 + ID3 + tagged,
        "mp3_id3_and_zeros.mp3": ID3 + bytes(1_000) + bare,
        "mp3_zeros_behind.mp3": bare + bytes(3_000),
        "mp3_lyrics_behind.mp3": bare + b"LYRICSBEGIN" + b"la " * 300 + b"LYRICS200TAG" + bytes(125),
        "mp3_ape_behind.mp3": tagged + ape_tag(),
        "mp3_ape_and_id3v1_behind.mp3": tagged + ape_tag() + b"TAG" + bytes(125),
        "mp3_ape_in_front.mp3": ape_tag() + tagged,
        "mp3_ape_in_front_bare.mp3": ape_tag() + bare,
        "mp3_id3_unsynchronised.mp3": UNSYNCHRONISED + tagged,
        "mp3_id3_with_footer.mp3": b"ID3\x04\x00\x10\x00\x00\x00\x10"
        + bytes(16)
        + b"3DI\x04\x00\x10\x00\x00\x00\x10"
        + tagged,
        "mp3_vbr_all_tags.mp3": ID3
        + written("lame_vbr_notag.mp3")
        + random
        + ape_tag()
        + b"TAG"
        + bytes(125),
        "mp3_from_within_a_frame.mp3": bare[777:],
        "mp3_joint_then_mono.mp3": tagged + written("lame_8k_8k.mp3"),
        "mp3_last_frame_cut.mp3": bare[:-100],
    }


def _oggs() -> dict[str, bytes]:
    vorbis, opus = written("oggenc.ogg"), written("opusenc_cbr.opus")
    return {
        "ogg_vorbis_chain.ogg": vorbis + written("ff_vorbis.ogg"),
        "ogg_vorbis_chain_of_three.ogg": vorbis * 3,
        "ogg_opus_chain.ogg": opus + written("opusenc_speech.opus"),
        "ogg_flac_chain.ogg": written("flac.oga") * 2,
        "ogg_speex_chain.ogg": written("speexenc_wb.spx") * 2,
        "ogg_zeros_behind.ogg": vorbis + bytes(500),
        "ogg_opus_not_closed.ogg": without_last_page(written("ff_opus_voip.oga")),
        "ogg_vorbis_not_closed.ogg": without_last_page(written("ff_vorbis_pipe.ogg")),
    }


def without_last_page(ogg: bytes) -> bytes:
    """A live capture: no page says that the stream ends."""
    return ogg[: ogg.rindex(b"OggS")]


def _flacs() -> dict[str, bytes]:
    file = io.BytesIO()
    soundfile.write(file, sound(0.5, 16_000, seed=3), 16_000, format="FLAC", subtype="PCM_24")
    flac = file.getvalue()
    unknown = bytearray(flac)
    unknown[21] &= 0xF0
    unknown[22:26] = bytes(4)
    return {
        "flac_length_unknown.flac": bytes(unknown),
        "flac_id3_in_front.flac": ID3 + flac,
        "flac_id3v1_behind.flac": flac + b"TAG" + bytes(125),
        "flac_id3_in_front_unknown.flac": ID3 + bytes(unknown),
    }
