"""Counts MPEG audio frames (ISO 11172-3, 13818-3; ADTS of 13818-7) without decoding.

libsndfile estimates the length of an MP3, or takes it from the first frame's Xing tag (libsndfile#1001, #943;
python-soundfile#433). We count every frame, to compare what a decoder returns with what the file has.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

SYNC_PROBE = 1 << 18  # most junk before the first frame
FRAMES_IN_A_ROW = 3  # junk often contains a sync word, but not three at the right distances
MAX_RESYNCS = 20_000  # bounds the time for hostile files
AAC_SYNC = re.compile(b"\xff[\xf0\xf1\xf8\xf9]|\x56[\xe0-\xff]")
BITRATES = {  # kbit/s, by (is MPEG 1, layer)
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
ADTS_RATES_HZ = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350
)  # fmt: skip
ADTS_SAMPLES = 1024
MOST_ADTS_FRAMES = 100_000  # half an hour at 48 kHz has 84 375
RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


@dataclass(frozen=True)
class Frame:
    """One frame header. length: bytes to the next frame; samples: per channel."""

    length: int
    samples: int
    rate_hz: int
    channels: int
    side_info: int


@dataclass(frozen=True)
class Frames:
    """All frames of a file.

    samples: per channel, without Xing frames. promised: the count in Xing or Info tags, None without.
    mixed: the rate or channel count changes.
    """

    count: int
    samples: int
    rate_hz: int
    promised: int | None
    mixed: bool

    @property
    def missing(self) -> int:
        """Frames that the tags promise but the file lacks."""
        return max(0, (self.promised or 0) - self.count)


_cache: dict[int, Frame | None] = {}


def frame_at(data: bytes, at: int) -> Frame | None:
    """Parse the frame header at `at`; None when there is none, and for free format."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    word = int.from_bytes(head, "big")
    if word not in _cache:
        if len(_cache) > 4096:
            _cache.clear()
        _cache[word] = _parse(word)
    return _cache[word]


def _parse(word: int) -> Frame | None:
    version, layer_bits = word >> 19 & 3, word >> 17 & 3
    bitrate_index, rate_index = word >> 12 & 15, word >> 10 & 3
    if version == 1 or layer_bits == 0 or bitrate_index in (0, 15) or rate_index == 3 or word & 3 == 2:
        return None
    layer, mpeg1, padding = 4 - layer_bits, version == 3, word >> 9 & 1
    bits_per_s = 1000 * BITRATES[mpeg1, layer][bitrate_index]
    rate = RATES_HZ[version][rate_index]
    channels = 1 if word >> 6 & 3 == 3 else 2
    side_info = (17 if channels == 1 else 32) if mpeg1 else (9 if channels == 1 else 17)
    if layer == 1:
        return Frame(4 * (12 * bits_per_s // rate + padding), 384, rate, channels, side_info)
    samples = 1152 if mpeg1 or layer == 2 else 576
    return Frame(samples // 8 * bits_per_s // rate + padding, samples, rate, channels, side_info)


def is_free_format(data: bytes, at: int) -> bool:
    """Whether a Layer III frame gives no bit rate; only a decoder can find its length."""
    head = data[at : at + 4]
    return len(head) == 4 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[2] & 0xFC in (0, 4, 8)


def is_adts(data: bytes, at: int) -> bool:
    """Whether consecutive ADTS frames of AAC begin at `at`."""
    return _is_aac_run(data, at, _adts_bytes)


def is_loas(data: bytes, at: int) -> bool:
    """Whether consecutive LOAS frames of AAC begin at `at`."""
    return _is_aac_run(data, at, _loas_bytes)


def first_aac(data: bytes, at: int) -> int | None:
    """Find the first run of ADTS or LOAS frames within 256 KiB after `at`: a radio stream is recorded from within a
    frame."""
    for sync in itertools.islice(AAC_SYNC.finditer(data, at, at + SYNC_PROBE), MAX_RESYNCS):
        if any(_is_aac_run(data, sync.start(), size, False) for size in (_adts_bytes, _loas_bytes)):
            return sync.start()
    return None


def _is_aac_run(data: bytes, at: int, size: Callable[[bytes], int], may_end: bool = True) -> bool:
    """may_end: fewer frames are a run too where the file ends."""
    for _ in range(FRAMES_IN_A_ROW):
        length = size(data[at : at + 7])
        if not length:
            return False
        at += length
        if at == len(data) and may_end:
            break
    return True


def _adts_bytes(head: bytes) -> int:
    """Bytes of the frame; 0 where none begins."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length > 7 else 0


def _loas_bytes(head: bytes) -> int:
    """Bytes of the frame; 0 where none begins."""
    if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return 0
    return 3 + ((head[1] & 0x1F) << 8 | head[2])


def steady_adts_seconds(data: bytes, at: int) -> float | None:
    """Seconds of AAC in ADTS frames that all have the rate and channels of the first; None when one differs or
    something stands between them."""
    rate_index, channels = data[at + 2] >> 2 & 15, (data[at + 2] & 1) << 2 | data[at + 3] >> 6
    if rate_index >= len(ADTS_RATES_HZ) or channels == 0:  # channels that the samples tell
        return None
    first = data[at + 2] & 0xFD, data[at + 3] & 0xC0
    samples, size = 0, len(data)
    for _ in range(MOST_ADTS_FRAMES):
        head = data[at : at + 7]
        length = _adts_bytes(head)
        if not length or (head[2] & 0xFD, head[3] & 0xC0) != first:
            return None
        at += length
        if at <= size:
            samples += ADTS_SAMPLES * ((head[6] & 3) + 1)
        if at >= size:
            return samples / ADTS_RATES_HZ[rate_index]
    return None


def tags_end(data: bytes, at: int) -> int:
    """Return the end of ID3v2 tags that begin at `at`; `at` when there are none."""
    while data[at : at + 3] == b"ID3" and len(head := data[at : at + 10]) == 10:
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        at += 10 + size + (10 if head[5] & 0x10 else 0)
    return at


def first_frame(data: bytes, at: int) -> int | None:
    """Find the first run of frames within 256 KiB after `at`."""
    end = min(len(data), at + SYNC_PROBE)
    for _ in range(MAX_RESYNCS):
        at = data.find(b"\xff", at, end)
        if at < 0:
            return None
        if _is_row(data, at):
            return at
        at += 1
    return None


def _is_row(data: bytes, at: int) -> bool:
    first = frame_at(data, at)
    frame = first
    for _ in range(FRAMES_IN_A_ROW - 1):
        if frame is None:
            return False
        at += frame.length
        if at >= len(data):
            return at == len(data)  # a file of one or two frames
        frame = frame_at(data, at)
    return frame is not None


def count_frames(data: bytes) -> Frames | None:
    """Count all frames of an MP3, across tags, junk and joined files; None when that is impossible (free format)."""
    at = first_frame(data, tags_end(data, 0))
    if at is None or is_free_format(data, tags_end(data, 0)):
        return None
    first = frame_at(data, at)
    assert first is not None
    count = samples = resyncs = 0
    promised: list[int] = []
    mixed = False
    while at < len(data):
        frame = frame_at(data, at)
        if frame is None:
            resyncs += 1
            if resyncs > MAX_RESYNCS:
                return None
            after_tag = tags_end(data, at)
            found = first_frame(data, after_tag if after_tag > at else at + 1)
            if found is None:
                break
            at = found
            continue
        if at + frame.length > len(data):  # the last frame is truncated: less than a frame is lost
            break
        tagged = _tagged_frames(data, at, frame)
        if tagged is None:
            count += 1
            samples += frame.samples
            mixed = mixed or (frame.rate_hz, frame.channels) != (first.rate_hz, first.channels)
        else:
            promised.append(tagged)
        at += frame.length
    return Frames(count, samples, first.rate_hz, sum(promised) if promised else None, mixed)


def _tagged_frames(data: bytes, at: int, frame: Frame) -> int | None:
    """Read the frame count of a Xing, Info or VBRI tag: 0 when it has none, None without a tag."""
    place = at + 4 + frame.side_info
    tag = data[place : place + 12]
    if tag[:4] in (b"Xing", b"Info") and len(tag) == 12:
        flags, frames = struct.unpack(">II", tag[4:])
        return frames if flags & 1 else 0
    if data[at + 36 : at + 40] == b"VBRI" and len(count := data[at + 50 : at + 54]) == 4:
        return int.from_bytes(count, "big")
    return None
