"""Speech as the client wants it: WAV and bare PCM as it is made, all else of the whole answer by ffmpeg.

ffmpeg is a program of its own, with limits of time and memory; it is called in a thread, never in the event loop.
"""

from __future__ import annotations

import resource
import struct
import subprocess
import threading
from collections.abc import Mapping
from typing import Protocol

from af3.errors import RequestError
from af3.inputs import ffmpeg
from serving.door.openai.pcm_rate import PCM_HZ, PcmRate
from serving.door.wav_file import wav_file

# ffmpeg's options for each format. Opus is in Ogg, AAC in ADTS frames: both play without a known length.
CODED: Mapping[str, tuple[str, ...]] = {
    "mp3": ("-c:a", "libmp3lame", "-b:a", "96k", "-f", "mp3"),
    "opus": ("-c:a", "libopus", "-b:a", "48k", "-f", "ogg"),
    "flac": ("-c:a", "flac", "-f", "flac"),
    "aac": ("-c:a", "aac", "-b:a", "96k", "-f", "adts"),
}
MEDIA_TYPES: Mapping[str, str] = {
    "wav": "audio/wav",
    "pcm16": "audio/pcm",
    "pcm": "audio/pcm",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "aac": "audio/aac",
}
OPEN_ENDED = 0xFFFFFFFF  # a length that is not known yet
CODING_S = 60
CODING_BYTES = 1 << 30  # address space
_coding = threading.BoundedSemaphore(2)


class SoundStream(Protocol):
    """Turns blocks of speech into bytes of a file, block by block."""

    def push(self, pcm: bytes, hz: int) -> bytes: ...
    def finish(self) -> bytes: ...


class WavStream:
    """At the voice's own rate; the header, in front of the first block, leaves the length open."""

    def __init__(self) -> None:
        self._begun = False

    def push(self, pcm: bytes, hz: int) -> bytes:
        if self._begun:
            return pcm
        self._begun = True
        return _wav_header(hz) + pcm

    def finish(self) -> bytes:
        return b""


class PcmStream:
    """16 bit, little endian, one channel, at the rate that OpenAI's clients expect of bytes without a header."""

    def __init__(self) -> None:
        self._rate = PcmRate()

    def push(self, pcm: bytes, hz: int) -> bytes:
        return self._rate.push(pcm, hz)

    def finish(self) -> bytes:
        return self._rate.finish()


def sound_stream(sound: str) -> SoundStream:
    """For `wav`, and `pcm` or `pcm16`."""
    return WavStream() if sound == "wav" else PcmStream()


def whole(sound: str, pcm: bytes, hz: int) -> bytes:
    """All of an answer's speech in one file; to be called in a thread. Raises RequestError."""
    if sound == "wav":
        return wav_file(pcm, hz)
    if sound in CODED:
        return _coded(sound, pcm, hz)
    stream = PcmStream()
    return stream.push(pcm, hz) + stream.finish()


def coder() -> str:
    """The path of ffmpeg. Raises RequestError where there is none."""
    path = ffmpeg.program()
    if path is None:
        raise RequestError(
            "UNIMPLEMENTED", f"this server has no ffmpeg, which {', '.join(CODED)} need; ask for wav or pcm"
        )
    return path


def _coded(sound: str, pcm: bytes, hz: int) -> bytes:
    command = [coder(), "-nostdin", "-hide_banner", "-v", "error", "-timelimit", str(CODING_S)]
    command += ["-f", "s16le", "-ar", str(hz), "-ac", "1", "-i", "pipe:0", "-threads", "1"]
    command += ["-map_metadata", "-1", *CODED[sound], "pipe:1"]
    with _coding:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}
        )
        try:
            resource.prlimit(process.pid, resource.RLIMIT_AS, (CODING_BYTES, CODING_BYTES))
            coded, _ = process.communicate(pcm, timeout=2 * CODING_S)
        except subprocess.TimeoutExpired:
            raise RequestError("DEADLINE_EXCEEDED", f"{sound} took too long to make; ask for wav") from None
        finally:
            process.kill()
            process.wait()
    if process.returncode or not coded:
        raise RequestError("INTERNAL", f"{sound} could not be made of the speech; ask for wav")
    return coded


def _wav_header(hz: int) -> bytes:
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        OPEN_ENDED,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        hz,
        2 * hz,
        2,
        16,
        b"data",
        OPEN_ENDED,
    )


__all__ = ["CODED", "MEDIA_TYPES", "PCM_HZ", "SoundStream", "coder", "sound_stream", "whole"]
