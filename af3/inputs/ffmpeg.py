"""The second decoder: ffmpeg, as a program of its own.

For what libsndfile cannot read whole. Weighed against it: PyAV bundles the same libraries with GPL parts and would
load them into our process; miniaudio (MIT) reads neither AAC nor WebM and keeps LAME's padding; torchcodec needs
torch and a system FFmpeg. The program comes with the wheel `imageio-ffmpeg` (pinned, 68 MB, GPL-3 build of FFmpeg 9,
starts in 30 ms); without the wheel the `ffmpeg` on PATH is taken, and without either such files are refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np

from af3.inputs.file_kind import FileKind

# Decoders of sound alone: a film's pictures are never decoded.
DECODERS = (
    "aac,aac_latm,ac3,eac3,alac,amrnb,libopencore_amrnb,amrwb,libopencore_amrwb,flac,mp1float,mp2float,mp3float,mp1,mp2,mp3,opus,speex,vorbis,wavpack,"
    "wmav1,wmav2,wmapro,wmavoice,g722,g726,g726le,gsm,gsm_ms,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,adpcm_yamaha,"
    "pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,"
    "pcm_f32be,pcm_f64le,pcm_f64be"
)
VARIABLE = "AF3_FFMPEG"
READ_BYTES = 1 << 20
# Larger frames, of which fewer are handed from thread to thread: a quarter less time for AAC and Opus. The last is not
# padded. What is in the filter when rate or channels change is lost.
STEADY_FILTER = ("-af", "asetnsamples=n=48000:p=0")
LONGEST_CHUNK = 4096  # of those before the samples, which ffmpeg writes itself


class Undecodable(Exception):
    """ffmpeg found no sound that it can decode; the reason is for a client."""


class NoProgram(Exception):
    """There is no ffmpeg here."""


class Stream:
    """What ffmpeg decodes, at the rate and with the channels of the file."""

    def __init__(self, output: IO[bytes]):
        _exactly(output, 12)
        while (head := struct.unpack("<4sI", _exactly(output, 8)))[0] != b"data":
            chunk = _exactly(output, min(head[1], LONGEST_CHUNK))
            if head[0] == b"fmt ":
                self.channels, self.rate_hz = struct.unpack_from("<HI", chunk, 2)
        self._output = output

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 [≤ n, channels], until the end."""
        frame = 4 * self.channels
        rest = b""
        while piece := self._output.read(READ_BYTES):
            data = rest + piece
            whole = len(data) - len(data) % frame
            rest = data[whole:]
            if whole:
                yield np.frombuffer(data, "<f4", whole // 4).reshape(-1, self.channels)


@cache
def program() -> str | None:
    """The path of ffmpeg: what AF3_FFMPEG says (empty: none), else the wheel's, else the one on PATH."""
    if VARIABLE in os.environ:
        return os.environ[VARIABLE] or None
    wheel = importlib.util.find_spec("imageio_ffmpeg")
    folder = Path(wheel.origin).parent / "binaries" if wheel and wheel.origin else None
    pinned = sorted(folder.glob("ffmpeg-*")) if folder else []
    return str(pinned[0]) if pinned else shutil.which("ffmpeg")


@contextmanager
def decoding(file: int, kind: FileKind, cpu_s: int) -> Iterator[Stream]:
    """Decode the file descriptor `file`; the program has ended when the block is left.

    Raises NoProgram, and Undecodable also at the end of the block, when ffmpeg gave up in the middle.
    """
    path = program()
    if path is None:
        raise NoProgram
    messages = os.memfd_create("messages")
    process = subprocess.Popen(
        _command(path, kind, cpu_s),
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=messages,
        env={"PATH": os.defpath, "LC_ALL": "C"},
    )
    assert process.stdout is not None
    with contextlib.suppress(OSError):  # the most that a process may ask for is a setting of the machine
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, READ_BYTES)
    try:
        try:
            yield Stream(process.stdout)
        except EOFError:
            process.wait()
            raise Undecodable(_reason(messages)) from None
        process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(messages)


@cache
def _has(path: str, decoder: str) -> bool:
    listed = subprocess.run([path, "-v", "quiet", "-decoders"], capture_output=True, text=True, check=False)
    return decoder in listed.stdout.split()


def _command(path: str, kind: FileKind, cpu_s: int) -> list[str]:
    """The container is the one that the bytes show: no playlist is followed, no other file is opened."""
    given = ["-protocol_whitelist", "file", "-codec_whitelist", DECODERS, "-f", str(kind.demuxer)]
    if kind.offset:
        given += ["-skip_initial_bytes", str(kind.offset)]
    if kind.decoder is not None and _has(path, kind.decoder):
        given += ["-c:a", kind.decoder]
    # Through /proc, not as a pipe: an M4A has its index at the end.
    given += ["-vn", "-sn", "-dn", "-threads", "1", "-i", "file:/proc/self/fd/0"]
    made = [
        "-vn",
        "-sn",
        "-dn",
        "-map_metadata",
        "-1",
        "-bitexact",
        *(STEADY_FILTER if kind.steady else ()),
        "-c:a",
        "pcm_f32le",
        "-f",
        "wav",
        "pipe:1",
    ]
    return [path, "-nostdin", "-hide_banner", "-v", "error", "-timelimit", str(cpu_s), *given, *made]


def _reason(messages: int) -> str:
    text = os.pread(messages, 4096, 0)
    if b"does not contain any stream" in text:
        return "it holds no sound track"
    if b"not in whitelist" in text or b"Decoder not found" in text or b"Decoding requested" in text:
        return "its sound is coded in a way that is not read"
    return "no sound in it can be decoded"


def _exactly(output: IO[bytes], size: int) -> bytes:
    data = output.read(size)
    if len(data) < size:
        raise EOFError
    return data
