"""Detects a file's kind from its bytes; ignores names and extensions."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from af3.inputs import matroska, mp3_frames

TEXT_PROBE = 4096


@dataclass(frozen=True)
class FileKind:
    """One kind of file.

    name: shown to clients. demuxer: ffmpeg's name of the container; None: ffmpeg is not used.
    libsndfile: whether to try libsndfile first. offset: where the file begins after tags or junk.
    decoder: ffmpeg decoder to use instead of the default. steady: one rate and channel count for the whole file, given
    in its header. only_codec: ffmpeg's name of the codec of the only track, known from the bytes. seconds: how long the
    sound is by its frames.
    """

    name: str
    demuxer: str | None = None
    libsndfile: bool = False
    offset: int = 0
    decoder: str | None = None
    steady: bool = False
    only_codec: str | None = None
    seconds: float | None = None

    @property
    def is_sound(self) -> bool:
        return self.libsndfile or self.demuxer is not None


WAV = FileKind("WAV", "wav", True)
RF64 = FileKind("RF64 or BW64", "wav", True)
FLAC = FileKind("FLAC", "flac", True)
MP3 = FileKind("MP3", "mp3", True)
OGG = FileKind("Ogg", "ogg", True)
MP4 = FileKind("MP4, M4A or 3GP", "mov", steady=True)
MATROSKA = FileKind("WebM or Matroska", "matroska", steady=True)
CAF = FileKind("CAF", "caf", True)
AIFF = FileKind("AIFF", "aiff", True)
AU = FileKind("AU", "au", True)
# FFmpeg's native AMR decoders skip the frames of pauses (DTX), which shortens the clip. Keyed by MP4 sample entry.
AMR_DECODERS = {b"samr": "libopencore_amrnb", b"sawb": "libopencore_amrwb"}
W64 = FileKind("Wave64", "w64", True)
W64_OF_FLOATS = replace(W64, libsndfile=False)
VOC = FileKind("VOC", "voc")
AMR = FileKind("AMR", "amr", decoder=AMR_DECODERS[b"samr"])
AMR_WIDEBAND = FileKind("AMR wideband", "amr", decoder=AMR_DECODERS[b"sawb"])
ASF = FileKind("ASF or WMA", "asf")
AVI = FileKind("AVI", "avi")
FLV = FileKind("FLV", "flv")
WAVPACK = FileKind("WavPack", "wv")
ADTS = FileKind("AAC (ADTS)", "aac")
DSF = FileKind("DSF", "dsf")
TRANSPORT_STREAM = FileKind("MPEG transport stream", "mpegts")
SVX = FileKind("8SVX or 16SV", "iff", True)
UNKNOWN = FileKind("not of a kind that is known")

SOUND_STARTS = (
    (b"fLaC", FLAC),
    (b"OggS", OGG),
    (b"caff", CAF),
    (b".snd", AU),
    (b"riff\x2e\x91\xcf\x11", W64),
    (b"NIST_1A", FileKind("NIST SPHERE", None, True)),
    # libsndfile reads the header of ffmpeg's VOC files as samples
    (b"Creative Voice File", VOC),
    (b"\x1aE\xdf\xa3", MATROSKA),
    (b"#!AMR\n", AMR),
    (b"#!AMR-WB\n", AMR_WIDEBAND),
    (b"#!AMR", FileKind("AMR of several channels", "amr")),
    (b"\x00\x00\x01\xba", FileKind("MPEG program stream", "mpeg")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ASF),
    (b"FLV\x01", FLV),
    (b"wvpk", WAVPACK),
    (b"TTA1", FileKind("TTA", "tta")),
    (b"\x7f\xfe\x80\x01", FileKind("DTS", "dts")),
    (b"nut/multimedia container\x00", FileKind("NUT", "nut")),
    (b".SoX", FileKind("SoX's own format", "sox")),
    (b"XoS.", FileKind("SoX's own format", "sox")),
    (b".RMF", FileKind("RealMedia", "rm")),
    (b".ra\xfd", FileKind("RealAudio", "rm")),
    (b"MMMD", FileKind("SMAF, a ringtone", "mmf")),
    (b"STRM", FileKind("AST", "ast")),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", FileKind("MXF", "mxf")),
    (b"\xb7\xd8\x00\x20\x37\x49\xda\x11", FileKind("WTV", "wtv")),
    (b"FWS", FileKind("SWF", "swf")),
    (b"\x0b\x77", FileKind("AC-3", "ac3")),
    (b"DSD \x1c\0\0\0\0\0\0\0", DSF),
)
OTHER_STARTS = (
    (b"MThd", "MIDI (notes, not sound)"),
    (b"MAC ", "Monkey's Audio"),
    (b"FRM8", "DSDIFF that is compressed"),
    (b"MPCK", "Musepack"),
    (b"MP+", "Musepack"),
    (b"\x02#!SILK", "SILK, a voice message of WeChat or QQ"),
    (b"#!SILK", "SILK, a voice message of WeChat or Skype"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed"),
    (b"BZh", "bzip2-compressed"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x7fELF", "a program"),
    (b"HTTP/1.", "an HTTP response with its head, of which the body alone is the file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x93NUMPY", "a NumPy array"),
)
RIFF_FORMS = {
    b"WAVE": WAV,
    b"AVI ": AVI,
    b"QLCM": FileKind("QCP (QCELP)", "qcp"),
    b"RMID": FileKind("MIDI (notes, not sound)"),
    b"WEBP": FileKind("a WebP picture"),
}
UNCOMPRESSED_DSD = re.compile(b"CMPR.{8}DSD ", re.DOTALL)
TRUEHD = {b"\xf8\x72\x6f\xba": FileKind("TrueHD", "truehd"), b"\xf8\x72\x6f\xbb": FileKind("MLP", "mlp")}
GSM_BYTES = 33  # of a frame, which begins with the bits 1101
GSM_FRAMES = 20  # in a row, by which it is known: two tenths of a second of other bytes never look so
MP4_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"pnot"}


def file_kind(data: bytes) -> FileKind:
    """Detect the kind of a whole file; skips ID3 tags, zeros and junk before MPEG audio."""
    found = _at_start(data, 0) or _behind_tags(data) or _transport_stream(data)
    return found or _mpeg_audio(data) or _no_sound(data)


def _at_start(data: bytes, start: int) -> FileKind | None:
    head = data[start : start + 64]
    for magic, kind in SOUND_STARTS:
        if head.startswith(magic):
            if kind is W64 and _is_float_w64(data, start):
                return W64_OF_FLOATS
            if kind is MATROSKA and matroska.only_codec(data) == "A_OPUS":
                return replace(MATROSKA, only_codec="opus")
            return kind
    if head[:4] in (b"RIFF", b"RIFX"):
        return RIFF_FORMS.get(head[8:12])
    if head[:4] in (b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return RF64
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return AIFF
    if head[:4] == b"FORM" and head[8:12] in (b"8SVX", b"16SV"):
        return SVX
    if head[:4] == b"FORM" and head[8:12] == b"MAUD":
        return FileKind("MAUD", "iff")
    if head[:4] == b"FRM8" and head[12:16] == b"DSD " and UNCOMPRESSED_DSD.search(data[start : start + 512]):
        return FileKind("DSDIFF", "iff")
    if head[4:8] in TRUEHD:
        return TRUEHD[head[4:8]]
    if head[4:8] in MP4_BOXES:
        return replace(MP4, decoder=_amr_decoder(data))
    # Packets of 188 bytes, on a camera's disc each behind 4 bytes of time.
    for first, length in ((start, 188), (start + 4, 192)):
        if all(data[first + at * length : first + at * length + 1] == b"G" for at in range(3)):
            return TRANSPORT_STREAM
    if head[:2] == b"\x80\x00" and data[start + int.from_bytes(head[2:4], "big") - 2 :][:6] == b"(c)CRI":
        return FileKind("ADX", "adx")
    if _is_gsm(data, start):
        return FileKind("GSM 06.10", "gsm")
    return None


def _is_float_w64(data: bytes, start: int) -> bool:
    """Float samples in the extensible form, as ffmpeg writes them: libsndfile takes them for integers."""
    form = data[start + 40 : start + 90]
    return form[:4] == b"fmt " and form[24:26] == b"\xfe\xff" and form[48:50] == b"\x03\x00"


def _is_gsm(data: bytes, start: int) -> bool:
    """Frames without a header, as SoX writes them: the whole file, or one that ends within a frame."""
    frames = data[start::GSM_BYTES]
    return len(frames) >= GSM_FRAMES and all(first >> 4 == 0xD for first in frames[:-1])


def _amr_decoder(mp4: bytes) -> str | None:
    """Find the decoder of the first AMR track by its sample description (stsd of ISO 14496-12)."""
    at = mp4.find(b"stsd")
    while at >= 0:
        if mp4[at + 16 : at + 20] in AMR_DECODERS:
            return AMR_DECODERS[mp4[at + 16 : at + 20]]
        at = mp4.find(b"stsd", at + 4)
    return None


def _behind_tags(data: bytes) -> FileKind | None:
    """Detect a file after ID3v2 tags, which some writers also put before FLAC, WAV or AAC."""
    offset = mp3_frames.tags_end(data, 0)
    found = _at_start(data, offset) if offset else None
    return None if found is None else replace(found, offset=offset)


def _transport_stream(data: bytes) -> FileKind | None:
    """Detect a recording of a broadcast, which begins within a packet: five packets in a row, with or without the 16
    bytes of a tuner's error correction."""
    head = data[: 6 * 204]
    if not set(head) & set(range(9)):  # text, such as a genome
        return None
    for length in (188, 204):
        if any(head[start::length][:5] == b"GGGGG" for start in range(length)):
            return TRANSPORT_STREAM
    return None


def _mpeg_audio(data: bytes) -> FileKind | None:
    """Detect frames without a container by a run of them; a single two-byte sync word proves nothing."""
    start = mp3_frames.tags_end(data, 0)
    if (aac := _aac(data, start)) is not None:
        return aac
    if mp3_frames.is_free_format(data, start) or mp3_frames.first_frame(data, start) is not None:
        return MP3
    within = mp3_frames.first_aac(data, start)
    return None if within is None else _aac(data, within)


def _aac(data: bytes, offset: int) -> FileKind | None:
    if mp3_frames.is_adts(data, offset):
        seconds = mp3_frames.steady_adts_seconds(data, offset)
        return replace(ADTS, offset=offset, only_codec=None if seconds is None else "aac", seconds=seconds)
    if mp3_frames.is_loas(data, offset):
        return FileKind("AAC (LOAS)", "loas", False, offset)
    return None


def _no_sound(data: bytes) -> FileKind:
    for magic, name in OTHER_STARTS:
        if data[: len(magic)] == magic:
            return FileKind(name)
    head = data[:TEXT_PROBE]
    if head.lstrip()[:1] == b"<":
        return FileKind("a web page or XML")
    if head.strip() and not set(head) & (set(range(32)) - set(b"\t\n\r\f\x1b")):
        return FileKind("text")
    return UNKNOWN
