"""The process in which files of strangers are decoded: `python -m af3.inputs.decoder_worker SOCKET LIMITS`.

Each message on the socket is JSON and two descriptors, a file in memory and an empty one for its samples; the answer
is JSON. What a file could do to its decoder ends here: memory, processor time, waiting time and the size of what is
written are limited, and a limit that is reached ends the process. `af3.inputs.clip_decoder` starts another one.
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
class Limits:
    """What one clip may take. cpu_s: the least, see `cpu_limit_s`; wall_s: four times as much is added for large files
    and long clips, since other work may keep the machine busy.
    """

    memory_bytes: int = 3 << 30  # of addresses
    cpu_s: int = 8
    output_bytes: int = (
        4 * SAMPLE_RATE * (LONGEST_CLIP_SECONDS + 1)
    )  # of the model that hears the longest clips
    wall_s: int = 60

    def cpu_of(self, file_bytes: int, max_seconds: float) -> int:
        return cpu_limit_s(file_bytes, max_seconds, self.cpu_s)

    def wall_of(self, file_bytes: int, max_seconds: float) -> int:
        return self.wall_s + 4 * (self.cpu_of(file_bytes, max_seconds) - self.cpu_s)


def main(descriptor: int, limits: Limits) -> None:
    """Answer until the other end is closed."""
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


def _limit(limits: Limits) -> None:
    # FFmpeg hands every packet from thread to thread; a thread that is not run at once when it is woken finds several.
    # A quarter less time for AAC and Opus. Not everywhere allowed.
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


def _answer(question: dict, file: int, output: int, limits: Limits) -> dict:
    began_s = _start_clock(limits, os.fstat(file).st_size, question["max_seconds"])
    try:
        clip = decode_file(file, question["name"], question["max_seconds"], question["read_cut_short"])
        os.pwrite(output, clip.pcm.data, 0)
        return {"samples": len(clip.pcm), "note": clip.note, "cpu_s": time.process_time() - began_s}
    except RequestError as error:
        return {"refused": error.message}
    except MemoryError:
        return {"refused": f"{question['name']}: the file takes too much memory to decode; convert it to WAV"}
    except Exception:
        return {"failed": traceback.format_exc()[-MESSAGE_BYTES // 4 :]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _start_clock(limits: Limits, file_bytes: int, max_seconds: float) -> float:
    """From now on this process has so much of a core and of time, then the kernel ends it."""
    began_s = time.process_time()
    resource.setrlimit(
        resource.RLIMIT_CPU, (int(began_s) + limits.cpu_of(file_bytes, max_seconds), resource.RLIM_INFINITY)
    )
    signal.setitimer(signal.ITIMER_REAL, limits.wall_of(file_bytes, max_seconds))
    return began_s


if __name__ == "__main__":
    main(int(sys.argv[1]), Limits(**json.loads(sys.argv[2])))
