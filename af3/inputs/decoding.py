"""Decodes one audio file to mono 16 kHz samples with libsndfile or, for files that it cannot read whole, ffmpeg.

For files that libsndfile reads, steps, order and precision are those of Transformers' `load_audio` (soundfile backend),
so the samples are equal. The server runs this in a separate process (`af3.inputs.clip_decoder`); tools that read
trusted files call `decode`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import soundfile

from af3.contract import MAX_CLIP_SECONDS
from af3.errors import RequestError, invalid
from af3.inputs import ffmpeg
from af3.inputs.audio import SAMPLE_RATE
from af3.inputs.chunk_repairs import plain_file
from af3.inputs.file_kind import FLAC, MP3, UNKNOWN, FileKind, file_kind
from af3.inputs.joined_parts import part_starts
from af3.inputs.mono import Mono, refuse_too_long
from af3.inputs.survey import TOLERATED_S, Survey, survey

READ_FRAMES = 1 << 18  # decode in blocks, so that a bomb is detected after one block, not after gigabytes
MOST_PARTS = 1000  # files joined into one: each costs the start of a decoder
ESTIMATED = ("MP3", "OGG")  # formats whose length libsndfile only estimates (libsndfile#1001)
# Decoders of MP3 drop the encoder's padding and the frames that only prime the decoder.
UNTOLD_MP3_FRAMES = 4 * 1152
UNCLOSED = "its last page is not marked as the last: a live capture, or cut between two pages"
UNKNOWN_FRAMES = 1 << 62  # libsndfile reports nearly 2^63 frames for a stream of unknown length
CONVERT = "convert it: ffmpeg -i FILE -ar 16000 -ac 1 clip.wav"
RAW = "raw samples need a header: sox -t raw -r 16000 -e signed -b 16 -c 1 FILE clip.wav"


@dataclass(frozen=True)
class Clip:
    """A decoded clip. pcm: float32 mono samples at 16 kHz, [n]. note: what is missing of a truncated file."""

    pcm: np.ndarray
    note: str | None = None


def decode(data: bytes, name: str, max_seconds: float = MAX_CLIP_SECONDS) -> np.ndarray:
    """Decode a whole file to float32 mono samples at 16 kHz, [n].

    name: used in errors (`audio[0]`). Raises RequestError for a file that is empty, of unknown kind, truncated, too
    long, or has non-finite samples.
    """
    with _in_memory(data) as file:
        return decode_file(file, name, max_seconds).pcm


def cpu_limit_s(file_bytes: int, max_seconds: float, least_s: int = 8) -> int:
    """Processor seconds allowed for a file. Ten minutes of stereo Opus, the slowest format, take 4 s; half an hour can
    be as small as 2 MB, so the limit grows with both size and length."""
    return least_s + 2 * (file_bytes >> 20) + max(0, int(max_seconds) - MAX_CLIP_SECONDS) // 50


def decode_file(file: int, name: str, max_seconds: float, read_cut_short: bool = False) -> Clip:
    """Like `decode`, from the descriptor of a file in memory; corrects a data size of 0 in place.

    read_cut_short: read a truncated file as far as it goes, with a note, instead of refusing it.
    """
    data = os.pread(file, os.fstat(file).st_size, 0)
    if not data:
        raise invalid(f"{name}: the file is empty; send a whole audio file")
    kind = file_kind(data)
    if not kind.is_sound and kind is not UNKNOWN:
        raise invalid(f"{name}: not a readable audio file: it is {kind.name}; {CONVERT}")
    plain = plain_file(data, kind)
    if plain is not None:
        with _in_memory(plain) as repaired:
            return decode_file(repaired, name, max_seconds, read_cut_short)
    starts = part_starts(data, kind)
    # Joined, or behind tags: of some formats libsndfile reads none behind an ID3 tag, of compressed 8SVX it never ends.
    if len(starts) > 1 or starts[0]:
        return _joined(data, starts, name, max_seconds, read_cut_short)
    found = survey(data, kind)
    if found.missing and not read_cut_short:
        raise _cut_short(name, found.missing)
    if found.size_at is not None:
        os.pwrite(file, found.size_at[1], found.size_at[0])
    del data
    reader = _Reader(file, name, kind, found, max_seconds, read_cut_short)
    pcm = reader.pcm()
    return Clip(pcm, reader.note)


def _joined(data: bytes, starts: list[int], name: str, max_seconds: float, read_cut_short: bool) -> Clip:
    """Each of the files that are joined into one, one after the other; the note of the last that has one."""
    if len(starts) > MOST_PARTS:
        raise invalid(
            f"{name}: more than {MOST_PARTS} files are joined into one; decode and join them to one WAV"
        )
    parts: list[np.ndarray] = []
    note = None
    for begin, end in pairwise([*starts, len(data)]):
        with _in_memory(data[begin:end]) as file:
            clip = decode_file(file, name, max_seconds, read_cut_short)
        parts.append(clip.pcm)
        note = clip.note or note
        refuse_too_long(name, sum(map(len, parts)) / SAMPLE_RATE, max_seconds, max_seconds)
    return Clip(np.concatenate(parts), note)


@contextmanager
def _in_memory(data: bytes) -> Iterator[int]:
    """The descriptor of a file in memory."""
    file = os.memfd_create("clip")
    try:
        with open(file, "wb", closefd=False) as opened:
            opened.write(data)
        yield file
    finally:
        os.close(file)


def _cut_short(name: str, missing: str) -> RequestError:
    return invalid(
        f"{name}: the file is cut short ({missing}); send the whole file, or with read_cut_short what there is"
    )


class _Reader:
    """Reads one file."""

    def __init__(
        self, file: int, name: str, kind: FileKind, found: Survey, max_seconds: float, read_cut_short: bool
    ):
        self._file = file
        self._name = name
        self._kind = kind
        self._found = found
        self._max_seconds = max_seconds
        self._read_cut_short = read_cut_short
        self._cpu_s = cpu_limit_s(os.fstat(file).st_size, max_seconds)
        self.note = found.missing or (UNCLOSED if found.unclosed else None)
        self._counted = found.frames or 0
        self._tolerated = UNTOLD_MP3_FRAMES if kind.name == MP3.name else 0

    def pcm(self) -> np.ndarray:
        """Read the whole file with libsndfile; if that is incomplete, with ffmpeg when it reads more."""
        first, why_first = self._by_libsndfile()
        if first is not None and why_first is None:
            return first.finished()
        second, why_second = self._by_ffmpeg()
        best = _longer(first, second)
        if best is None:
            raise self._unreadable(why_first if second is None and why_second is None else why_second)
        self._refuse_cut(best)
        return best.finished()

    def _by_libsndfile(self) -> tuple[Mono | None, str | None]:
        """Return what libsndfile reads, and the reason when it is nothing or incomplete."""
        if not self._kind.libsndfile and self._kind is not UNKNOWN:
            return None, "this server has no ffmpeg to read it"
        if self._found.joined:
            return None, "it has several parts, and this server has no ffmpeg to read them"
        os.lseek(self._file, 0, os.SEEK_SET)
        try:
            with soundfile.SoundFile(self._file, closefd=False) as file:
                return self._read(file)
        except soundfile.LibsndfileError as error:
            return None, error.error_string.rstrip(". ")

    def _read(self, file: soundfile.SoundFile) -> tuple[Mono, str | None]:
        declared = file.frames if file.seekable() and 0 < file.frames < UNKNOWN_FRAMES else None
        sure = None if file.format in ESTIMATED else declared
        mono = Mono(self._name, file.samplerate, file.channels, self._max_seconds, sure)
        if file.format == FLAC.name and declared is None:  # python-soundfile#450: it seeks and fails
            return mono, "its length is unknown, and this server has no ffmpeg to read it"
        for block in _blocks(file):
            mono.add(block)
        wanted = self._counted or (declared if file.format != MP3.name else None) or 0
        if mono.frames < wanted - self._tolerated:
            return mono, f"{mono.frames} of {wanted} frames could be read"
        return mono, None

    def _by_ffmpeg(self) -> tuple[Mono | None, str | None]:
        """Like `_by_libsndfile`, with ffmpeg; without the program, (None, None)."""
        if self._kind.demuxer is None:
            return None, None
        try:
            if self._kind.only_codec is not None:
                with contextlib.suppress(ffmpeg.Undecodable):
                    mono = self._all_of(self._kind)
                    if mono.seconds >= (self._kind.seconds or 0) - TOLERATED_S:
                        return mono, None
            return self._all_of(replace(self._kind, only_codec=None)), None
        except ffmpeg.NoProgram:
            return None, None
        except ffmpeg.Undecodable as error:
            return None, str(error)

    def _all_of(self, kind: FileKind) -> Mono:
        with ffmpeg.decoding(self._file, kind, self._cpu_s) as stream:
            mono = Mono(self._name, stream.rate_hz, stream.channels, self._max_seconds, None)
            for block in stream.blocks():
                mono.add(block)
            return mono

    def _refuse_cut(self, best: Mono) -> None:
        """Refuse a file when neither decoder read all counted frames. Lengths in headers are often wrong, so they do
        not count: what both decoders agree on is the whole file.
        """
        if best.frames >= self._counted - self._tolerated:
            return
        missing = f"{best.frames} of {self._counted} frames could be read"
        if not self._read_cut_short:
            raise _cut_short(self._name, missing)
        self.note = self.note or missing

    def _unreadable(self, why: str | None) -> RequestError:
        if self._kind is UNKNOWN:
            return invalid(
                f"{self._name}: not a readable audio file, its bytes are of no known kind; {CONVERT}; {RAW}"
            )
        return invalid(f"{self._name}: not a readable audio file: {self._kind.name}, {why}; {CONVERT}")


def _longer(first: Mono | None, second: Mono | None) -> Mono | None:
    """Choose the longer of two readings of one file; the first when the second adds nothing audible."""
    if first is None or second is None:
        return first or second
    return second if second.seconds > first.seconds + TOLERATED_S else first


def _blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    read: Callable[..., np.ndarray] = file.read
    while len(block := read(READ_FRAMES // file.channels + 1, dtype="float32", always_2d=True)):
        yield block
