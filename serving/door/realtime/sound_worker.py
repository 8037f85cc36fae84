"""The door's side of the process that hears and converts sound: one for all sessions, started anew when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from clients.sound.voice_activity import FRAME_MS
from serving.door.realtime.sound_protocol import (
    CLOSE,
    HEAD,
    LAST,
    OPEN_CONVERTER,
    OPEN_DETECTOR,
    RATES,
    SOUND,
)

log = logging.getLogger("af3.door")
REPOSITORY = Path(__file__).parents[3]
PIECE_MS = 100  # sound goes over in pieces, so that a long one does not hold up the other sessions
MOST_WAITING = 20  # pieces of one stream
HUNG_S = 15.0  # without an answer to a piece
STARTING_S = 60.0  # to the first one: it loads a model, maybe on a busy machine
LOOK_EVERY_S = 1.0
RESTART_S = 0.5  # between two processes
READY_S = 0.01
STARTS = 5  # in a row without a single answer; then there is none until the next session begins


class SoundLost(Exception):
    """The process ended; what it had not answered is lost."""


class _Stream:
    """The base of detector and converter: the unanswered pieces of one stream, in order."""

    def __init__(self, worker: SoundWorker, opening: int, hz: int, to_hz: int):
        self._worker = worker
        self._opening = opening
        self.hz, self.to_hz = hz, to_hz
        self.number = 0
        self.waiting: deque[float] = deque()  # since when
        self._room = asyncio.Event()
        self._room.set()

    def answered(self, data: bytes) -> None:
        if self.waiting:
            self.waiting.popleft()
        if len(self.waiting) < MOST_WAITING:
            self._room.set()

    def lost(self) -> None:
        self.number = 0
        self.waiting.clear()
        self._room.set()

    def close(self) -> None:
        self._worker.release(self)

    def opened(self) -> None:
        """A process has the stream now, maybe not the first one."""

    async def send(self, kind: int, pcm: bytes) -> None:
        """Raises SoundLost when there is no process and none comes."""
        while len(self.waiting) >= MOST_WAITING:
            self._room.clear()
            await self._room.wait()
        if not self.number:
            await self._worker.ready()
            self.number = self._worker.open(self, self._opening)
            self.opened()
        self.waiting.append(time.monotonic())
        self._worker.write(self.number, kind, pcm)


class Detector(_Stream):
    """Sound of one session → `judged(ms, probabilities)`: of speech in frames of 32 ms, the first one beginning at
    `ms` of the sound that was fed.
    """

    def __init__(self, worker: SoundWorker, hz: int, judged: Callable[[float, list[float]], None]):
        super().__init__(worker, OPEN_DETECTOR, hz, 0)
        self._judged = judged
        self._fed_ms = 0.0
        self._next_ms = 0.0
        self._closed = False

    async def feed(self, pcm: bytes) -> None:
        """Returns when the process has it, or soon will: the bound for a client that sends too fast.

        Raises SoundLost.
        """
        piece = 2 * (self.hz * PIECE_MS // 1000)
        for start in range(0, len(pcm), piece):
            if self._closed:
                return
            part = pcm[start : start + piece]
            await self.send(SOUND, part)
            self._fed_ms += 1000 * len(part) / 2 / self.hz

    def opened(self) -> None:
        self._next_ms = self._fed_ms

    def answered(self, data: bytes) -> None:
        super().answered(data)
        found = np.frombuffer(data, "<f4").tolist()
        if found and not self._closed:
            first_ms, self._next_ms = self._next_ms, self._next_ms + FRAME_MS * len(found)
            self._judged(first_ms, found)

    def close(self) -> None:
        self._closed = True
        super().close()


class Converter(_Stream):
    """Speech of one answer: int16 of the voice's rate → the session's rate."""

    def __init__(self, worker: SoundWorker, hz: int, to_hz: int):
        super().__init__(worker, OPEN_CONVERTER, hz, to_hz)
        self._found: deque[asyncio.Future[bytes]] = deque()

    async def convert(self, pcm: bytes, last: bool = False) -> bytes:
        """Convert a piece; the output is a little behind the input. Raises SoundLost."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._found.append(future)
        try:
            await self.send(LAST if last else SOUND, pcm)
        except SoundLost:
            self._found.remove(future)
            raise
        return await future

    def answered(self, data: bytes) -> None:
        super().answered(data)
        if self._found and not (future := self._found.popleft()).done():
            future.set_result(data)

    def lost(self) -> None:
        super().lost()
        found, self._found = self._found, deque()
        for future in found:
            if not future.done():
                future.set_exception(SoundLost("the process that converts sound ended"))


class SoundWorker:
    """For one event loop. The process starts with the first `start`, and ends with `close`."""

    def __init__(self) -> None:
        self._streams: dict[int, _Stream] = {}
        self._last = 0
        self._writer: asyncio.StreamWriter | None = None
        self._running: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._useful = False  # the process has answered something
        self.starts = 0

    def start(self) -> None:
        """At a session's beginning; does not wait."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._run())

    async def ready(self) -> None:
        """Wait for a process. Raises SoundLost when none starts."""
        running = self._running
        while self._writer is None:
            if running is None or running.done():
                raise SoundLost("the process that hears and converts sound does not start")
            await asyncio.sleep(READY_S)

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def open(self, stream: _Stream, kind: int) -> int:
        """Its number. Raises SoundLost."""
        self._last += 1
        self._streams[self._last] = stream
        self.write(self._last, kind, RATES.pack(stream.hz, stream.to_hz))
        return self._last

    def release(self, stream: _Stream) -> None:
        if stream.number:
            self._streams.pop(stream.number, None)
            with contextlib.suppress(SoundLost):
                self.write(stream.number, CLOSE, b"")
            stream.number = 0
        stream.lost()

    def write(self, number: int, kind: int, payload: bytes) -> None:
        """Raises SoundLost when there is no process."""
        if self._writer is None:
            raise SoundLost("the process that hears and converts sound ended")
        self._writer.write(HEAD.pack(len(payload), number, kind) + payload)

    async def _run(self) -> None:
        """One process after the other, until several in a row die without having answered anything."""
        useless = 0
        while useless < STARTS:
            began_s = time.monotonic()
            useless = 0 if await self._one_process() else useless + 1
            log.error("the process that hears sound ended after %.1f s", time.monotonic() - began_s)
            await asyncio.sleep(RESTART_S)

    async def _one_process(self) -> bool:
        """Run one process until it dies; return whether it answered anything."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "serving.door.realtime.sound_process", str(theirs.fileno())]
            path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
            self._process = await asyncio.to_thread(
                subprocess.Popen,
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            )
        self.starts += 1
        reader, writer = await asyncio.open_connection(sock=ours)
        self._writer = writer
        watching = asyncio.ensure_future(self._watch(self._process))
        self._useful = False
        try:
            while True:
                length, number, _ = HEAD.unpack(await reader.readexactly(HEAD.size))
                data = await reader.readexactly(length)
                self._useful = True
                stream = self._streams.get(number)
                if stream is not None:
                    stream.answered(data)
        except (asyncio.IncompleteReadError, OSError):
            return self._useful
        finally:
            watching.cancel()
            self._writer = None
            writer.close()
            process = self._process
            process.kill()  # it has ended, or is not wanted any more
            await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(process.wait)))
            streams, self._streams = list(self._streams.values()), {}
            for stream in streams:
                stream.lost()

    async def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """A process that answers nothing for too long is ended."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            oldest = min(
                (stream.waiting[0] for stream in self._streams.values() if stream.waiting), default=None
            )
            allowed_s = HUNG_S if self._useful else STARTING_S
            if oldest is not None and time.monotonic() - oldest > allowed_s:
                log.error("the process that hears sound answers nothing; it is ended")
                process.kill()
