"""Decodes with ffmpeg, as a separate program, files that libsndfile cannot read whole.

The alternatives: PyAV bundles the same libraries with GPL parts and would load them into our process; miniaudio (MIT)
reads neither AAC nor WebM and keeps LAME's padding; torchcodec needs torch and a system FFmpeg. The program comes with
the wheel `imageio-ffmpeg` (pinned, 68 MB, GPL-3 build of FFmpeg 9, starts in 30 ms). Without the wheel the `ffmpeg` on
PATH is used; without either, such files are refused.
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

# Audio decoders only: video is never decoded.
DECODERS = (
    "aac,aac_latm,ac3,eac3,alac,amrnb,libopencore_amrnb,amrwb,libopencore_amrwb,flac,mp1float,mp2float,mp3float,mp1,mp2,mp3,opus,speex,vorbis,wavpack,"
    "tta,dca,truehd,mlp,pcm_dvd,pcm_bluray,real_144,real_288,cook,sipr,nellymoser,qcelp,evrc,truespeech,g729,g723_1,"
    "atrac3,atrac3p,adpcm_swf,adpcm_afc,adpcm_adx,8svx_fib,8svx_exp,s302m,pcm_s8_planar,pcm_s16be_planar,pcm_s16le_planar,pcm_s24le_planar,"
    "wmav1,wmav2,wmapro,wmavoice,wmalossless,g722,g726,g726le,gsm,gsm_ms,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,adpcm_yamaha,"
    "pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,"
    "pcm_f32be,pcm_f64le,pcm_f64be,pcm_s64le,pcm_s64be,dsd_lsbf,dsd_msbf,dsd_lsbf_planar,dsd_msbf_planar"
)
# Containers of one track whose header names its codec. Where ffmpeg does not know that codec it reads up to 5 MB to
# learn more: in packets of one byte, 2 MB took 8 s of processor time, and then it gave up.
CODEC_IN_HEADER = {"wav", "w64", "caf", "aiff", "au", "voc", "sox", "iff", "tta", "ast", "dsf"}
HEADER_PROBE = ("-probesize", str(1 << 18))
VARIABLE = "AF3_FFMPEG"
READ_BYTES = 1 << 20
# Larger frames pass between threads less often: AAC and Opus take a quarter less time. The last frame is not padded.
# Samples inside the filter are lost when the rate or channels change, so it is used only for steady streams.
STEADY_FILTER = ("-af", "asetnsamples=n=48000:p=0")
LONGEST_CHUNK = 4096  # bytes of a WAV chunk before the samples; ffmpeg itself writes them


class Undecodable(Exception):
    """ffmpeg found no audio that it can decode; the message is for the client."""


class NoProgram(Exception):
    """No ffmpeg is installed."""


class Stream:
    """ffmpeg's decoded samples, at the file's own rate and channels."""

    def __init__(self, output: IO[bytes]):
        _exactly(output, 12)
        while (head := struct.unpack("<4sI", _exactly(output, 8)))[0] != b"data":
            chunk = _exactly(output, min(head[1], LONGEST_CHUNK))
            if head[0] == b"fmt ":
                self.channels, self.rate_hz = struct.unpack_from("<HI", chunk, 2)
        self._output = output

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield float32 [≤ n, channels] until the end."""
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
    """Find ffmpeg: the value of AF3_FFMPEG (empty for none), else the wheel's, else the one on PATH."""
    if VARIABLE in os.environ:
        return os.environ[VARIABLE] or None
    wheel = importlib.util.find_spec("imageio_ffmpeg")
    folder = Path(wheel.origin).parent / "binaries" if wheel and wheel.origin else None
    pinned = sorted(folder.glob("ffmpeg-*")) if folder else []
    return str(pinned[0]) if pinned else shutil.which("ffmpeg")


@contextmanager
def decoding(file: int, kind: FileKind, cpu_s: int) -> Iterator[Stream]:
    """Decode the file descriptor `file`; the program has ended when the block exits.

    Raises NoProgram, or Undecodable, also at the end of the block when ffmpeg gives up midway.
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
    with contextlib.suppress(OSError):  # the system limits pipe sizes
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, READ_BYTES)
    try:
        try:
            yield Stream(process.stdout)
        except EOFError:
            process.wait()
            raise Undecodable(_reason(messages)) from None
        process.wait()
        if kind.only_codec is not None and os.fstat(messages).st_size:
            raise Undecodable(
                "a part of it is broken"
            )  # where the filter that reads it stops, ffmpeg itself goes on
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
    """Force the container that the file's bytes show, so that ffmpeg follows no playlist and opens no other file."""
    plain = [path, "-nostdin", "-hide_banner", "-v", "error", "-timelimit", str(cpu_s)]
    written = ["-map_metadata", "-1", "-bitexact", "-f", "wav", "pipe:1"]
    if kind.only_codec is not None and not kind.offset:
        return [*plain, "-f", "lavfi", "-i", _in_one_thread(kind), "-c:a", "copy", *written]
    given = ["-protocol_whitelist", "file", "-codec_whitelist", DECODERS, "-f", str(kind.demuxer)]
    if kind.demuxer in CODEC_IN_HEADER:
        given += HEADER_PROBE
    if kind.offset:
        given += ["-skip_initial_bytes", str(kind.offset)]
    if kind.decoder is not None and _has(path, kind.decoder):
        given += ["-c:a", kind.decoder]
    # Through /proc, not a pipe, because ffmpeg must seek: an M4A has its index at the end.
    given += ["-vn", "-sn", "-dn", "-threads", "1", "-i", "file:/proc/self/fd/0"]
    made = ["-vn", "-sn", "-dn", *(STEADY_FILTER if kind.steady else ()), "-c:a", "pcm_f32le"]
    return [*plain, *given, *made, *written]


def _in_one_thread(kind: FileKind) -> str:
    """A filter that reads the file and decodes its sound by itself: no packet passes between threads.

    It takes any audio decoder, so it is only for files whose codec is known.
    """
    return (
        f"amovie=filename=/proc/self/fd/0:format_name={kind.demuxer}:dec_threads=1"
        rf":format_opts='protocol_whitelist=file\:codec_whitelist={kind.only_codec}'"
        ",aformat=sample_fmts=flt,asetnsamples=n=48000:p=0"
    )


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
