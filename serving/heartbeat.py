"""Signs of life of Triton's Python steps, so that a slow one can be told from one that hangs.

Every process of a step writes a few numbers into a small file in shared memory: a thread of its own says each half
second that the process runs, and its work says when it moved on. The supervisor reads the files; nothing waits in a
queue, and nothing is sent.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("af3")

VARIABLE = "AF3_HEARTBEATS"  # beginning of the files' paths; without it nothing is written
BEAT_S = 0.5
BEAT, MOVED, WORKING = (
    0,
    8,
    16,
)  # offsets of three numbers: time.monotonic() twice, which all processes share, and 0 or 1
NUMBER = struct.Struct("=d")
SIZE = 24


class Heart:
    """Written by one process of a step. Any thread may call it; a call costs about a microsecond."""

    def __init__(self, step: str, prefix: str | None = None):
        """`prefix`: where the file lies; that of the supervisor, if there is one, by default."""
        prefix = os.environ.get(VARIABLE) if prefix is None else prefix
        self._numbers: mmap.mmap | None = None
        if prefix is None:
            return
        try:
            self._numbers = _create(Path(f"{prefix}{step}-{os.getpid()}"))
        except OSError as error:
            log.warning("no heartbeat of %s: %s; a long pause of it may be taken for a hang", step, error)
            return
        self._beat()
        self.idle()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def moved(self) -> None:
        """The step is at work and has just done a part of it: a window, a turn, a request."""
        self._write(MOVED, time.monotonic())
        self._write(WORKING, 1.0)

    def idle(self) -> None:
        """The step waits for work."""
        self._write(WORKING, 0.0)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Around the work of a call."""
        self.moved()
        try:
            yield
        finally:
            self.idle()

    def _run(self) -> None:
        while True:
            time.sleep(BEAT_S)
            self._beat()

    def _beat(self) -> None:
        self._write(BEAT, time.monotonic())

    def _write(self, offset: int, value: float) -> None:
        if self._numbers is not None:
            NUMBER.pack_into(self._numbers, offset, value)


@dataclass(frozen=True)
class Pulse:
    """What one process of a step has last said. `silent_s`: since it last ran; `still_s`: since its work moved on,
    0 when it waits for work."""

    step: str
    silent_s: float
    still_s: float
    working: bool


def pulses(prefix: str) -> list[Pulse]:
    """The pulses of every process whose file begins with `prefix`; those without a file are left out."""
    now = time.monotonic()
    found: list[Pulse] = []
    path = Path(prefix)
    with suppress(OSError):  # there is no file handle left to look
        for file in sorted(path.parent.glob(f"{path.name}*")):
            with suppress(FileNotFoundError, struct.error):  # it was just taken away, or is not yet written
                beat_s, moved_s, working = struct.unpack("=ddd", file.read_bytes())
                step = file.name.removeprefix(path.name).rpartition("-")[0]
                found.append(Pulse(step, now - beat_s, now - moved_s if working else 0.0, bool(working)))
    return found


def _create(path: Path) -> mmap.mmap:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.posix_fallocate(handle, 0, SIZE)  # or writing to a full /dev/shm would end the process
        return mmap.mmap(handle, SIZE)
    finally:
        os.close(handle)
