"""The process that decodes untrusted files: `python -m af3.inputs.decoder_worker SOCKET LIMITS`.

Each message on the socket is JSON with two descriptors: a file in memory, and an empty one for its samples. The reply
is JSON. Memory, processor time, wall time and output size are limited, so a malicious file can harm only this process;
a limit that is reached kills it, and `af3.inputs.clip_decoder` starts another.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass

from af3.contract import LONGEST_CLIP_SECONDS
from af3.errors import RequestError
from af3.inputs.audio import SAMPLE_RATE
from af3.inputs.decoding import cpu_limit_s, decode_file

MESSAGE_BYTES = 1 << 16
NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS


@dataclass(frozen=True)
class DecodingLimits:
    """Limits of decoding one clip. cpu_s: for a small file, see `cpu_limit_s`. wall_s: grows by four times the extra
    processor time of large files and long clips, because other work may keep the machine busy.
    """

    memory_bytes: int = 3 << 30  # address space
    cpu_s: int = 8
    output_bytes: int = (
        4 * SAMPLE_RATE * (LONGEST_CLIP_SECONDS + 1)
    )  # of the model that hears the longest clips
    wall_s: int = 60

    def cpu_of(self, file_bytes: int, max_seconds: float) -> int:
        return cpu_limit_s(file_bytes, max_seconds, self.cpu_s)

    def wall_of(self, file_bytes: int, max_seconds: float) -> int:
        return self.wall_s + 4 * (self.cpu_of(file_bytes, max_seconds) - self.cpu_s)


def main(descriptor: int, limits: DecodingLimits) -> None:
    """Serve until the other end closes."""
    # A process group of its own, so that ffmpeg ends with it, but not a session: Linux shares the processor between
    # sessions first (autogroup), so that the niceness of the step that started it would not count.
    os.setpgid(0, 0)
    _limit(limits)
    with socket.socket(fileno=descriptor) as connection:
        connection.send(b"ready")
        while True:
            message, files, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 2)
            if not message:
                return
            file, output = files
            connection.send(json.dumps(_answer(json.loads(message), file, output, limits)).encode())
            os.close(file)
            os.close(output)


def _limit(limits: DecodingLimits) -> None:
    # FFmpeg passes each packet between threads. Under SCHED_BATCH a woken thread runs later and finds several packets:
    # AAC and Opus take a quarter less time. Some systems forbid it.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    ctypes.CDLL(None).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    for limit, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.output_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def _answer(question: dict, file: int, output: int, limits: DecodingLimits) -> dict:
    _start_clock(limits, os.fstat(file).st_size, question["max_seconds"])
    try:
        clip = decode_file(file, question["name"], question["max_seconds"], question["read_cut_short"])
        os.pwrite(output, clip.pcm.data, 0)
        return {"samples": len(clip.pcm), "note": clip.note}
    except RequestError as error:
        return {"refused": error.message}
    except MemoryError:
        return {"refused": f"{question['name']}: the file takes too much memory to decode; convert it to WAV"}
    except Exception:
        return {"failed": traceback.format_exc()[-MESSAGE_BYTES // 4 :]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _start_clock(limits: DecodingLimits, file_bytes: int, max_seconds: float) -> None:
    """Start the limits on processor and wall time; the kernel kills this process when one is reached."""
    until_s = int(time.process_time()) + limits.cpu_of(file_bytes, max_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (until_s, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_REAL, limits.wall_of(file_bytes, max_seconds))


if __name__ == "__main__":
    main(int(sys.argv[1]), DecodingLimits(**json.loads(sys.argv[2])))
