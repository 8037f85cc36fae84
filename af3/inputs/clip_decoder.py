"""Decodes untrusted files in a separate process, which is reused from file to file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np

from af3.contract import MAX_CLIP_SECONDS
from af3.errors import invalid
from af3.inputs import plain_wav
from af3.inputs.decoder_worker import MESSAGE_BYTES, DecodingLimits
from af3.inputs.decoding import Clip
from af3.python_program import python_program

log = logging.getLogger("af3")
START_S = 60.0  # importing numpy can be slow on a busy machine
PATIENCE_S = 5.0  # grace after the process's own time limit


class DecoderFault(Exception):
    """A bug of ours in the decoder process; holds its traceback."""


class ClipDecoder:
    """A decoder process for one file at a time; started with the first file, and again after it dies."""

    def __init__(self, limits: DecodingLimits | None = None) -> None:
        self._limits = limits or DecodingLimits()
        self._lock = threading.Lock()
        self._worker: _Worker | None = None

    def decode(
        self, data: bytes, name: str, max_seconds: float = MAX_CLIP_SECONDS, read_cut_short: bool = False
    ) -> Clip:
        """Decode a whole audio file to float32 mono samples at 16 kHz; see `af3.inputs.decoding.decode_file`.

        Raises RequestError for a refused file, and for one on which the decoder dies twice.
        """
        pcm = plain_wav.read(data, name, max_seconds)
        if pcm is not None:
            return Clip(pcm)
        question = {"name": name, "max_seconds": max_seconds, "read_cut_short": read_cut_short}
        with self._lock:
            for _ in range(2):  # the first time, something else may have killed it
                try:
                    return self._running().ask(json.dumps(question).encode(), data, max_seconds)
                except (OSError, EOFError) as error:
                    reason = self._drop_worker()
                    log.warning(
                        "the decoder process ended (%s, %r) on a file of %d bytes", reason, error, len(data)
                    )
                    if reason in (-signal.SIGXCPU, -signal.SIGALRM):
                        break
        raise invalid(
            f"{name}: the decoder gave up on the file; convert it: ffmpeg -i FILE -ar 16000 -ac 1 clip.wav"
        )

    def start(self) -> None:
        """Start the process now, before the first file."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """End the process; the next file starts a new one."""
        with self._lock:
            self._drop_worker()

    def _running(self) -> _Worker:
        if self._worker is not None and self._worker.exit_code is not None:
            self._drop_worker()
        if self._worker is None:
            self._worker = _Worker(self._limits)
        return self._worker

    def _drop_worker(self) -> int | None:
        worker, self._worker = self._worker, None
        return None if worker is None else worker.stop()


class _Worker:
    """The decoder process and our end of its socket."""

    def __init__(self, limits: DecodingLimits) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [python_program(), "-m", "af3.inputs.decoder_worker", str(theirs.fileno()), _words(limits)],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # mpg123 prints warnings about many files; our errors come by the socket
                pass_fds=[theirs.fileno()],
                env=_environment(),
            )
        self._socket = ours
        self._socket.settimeout(START_S)
        if not self._socket.recv(MESSAGE_BYTES):
            self.stop()
            raise EOFError("it did not start")
        self._limits = limits

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, question: bytes, data: bytes, max_seconds: float) -> Clip:
        """Decode one file. Raises EOFError or OSError when the process died or hangs."""
        with _memory_file("clip") as file, _memory_file("pcm") as output:
            with open(file, "wb", closefd=False) as opened:
                opened.write(data)
            self._socket.settimeout(self._limits.wall_of(len(data), max_seconds) + PATIENCE_S)
            socket.send_fds(self._socket, [question], [file, output])
            reply = self._socket.recv(MESSAGE_BYTES)
            if not reply:
                raise EOFError
            answer = json.loads(reply)
            if "failed" in answer:
                raise DecoderFault(answer["failed"])
            if "refused" in answer:
                raise invalid(answer["refused"])
            # Read the file instead of mapping it: a file that shrinks under a mapping would kill this process.
            pcm = np.frombuffer(os.pread(output, 4 * answer["samples"], 0), np.float32)
            return Clip(pcm, answer["note"])

    def stop(self) -> int:
        """Kill the process and its children; return its exit code, negative for a signal."""
        self._socket.close()
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not made its group yet
            self._process.kill()
        return self._process.wait()


@contextlib.contextmanager
def _memory_file(name: str) -> Iterator[int]:
    file = os.memfd_create(name)
    try:
        yield file
    finally:
        os.close(file)


def _words(limits: DecodingLimits) -> str:
    return json.dumps(dataclasses.asdict(limits))


def _environment() -> dict[str, str]:
    """Share this process's packages; limit libraries to one thread, because a decoder needs no more."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
