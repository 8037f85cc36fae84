"""The process beside the door that hears and converts sound for all sessions: python -m … FD.

The door itself holds neither ONNX Runtime nor soxr. `sound_protocol.py` has the messages. The process ends when the
socket is closed.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import soxr

from clients.sound.voice_activity import FRAME_SAMPLES, HZ, VoiceActivity, load_model
from serving.door.realtime.sound_protocol import CLOSE, HEAD, LAST, OPEN_CONVERTER, OPEN_DETECTOR, RATES


class Detector:
    """Sound of any rate → the probability of speech of every 32 ms, float32."""

    def __init__(self, hz: int, model: object):
        # Low quality holds back 6 ms of 24 kHz; of 8 kHz it would hold back 60, and there interpolation does.
        quality = "QQ" if hz < HZ else "LQ"
        self._to_16k = None if hz == HZ else soxr.ResampleStream(hz, HZ, 1, dtype="int16", quality=quality)
        self._voice = VoiceActivity(model)
        self._left = np.zeros(0, np.int16)

    def take(self, pcm: np.ndarray, last: bool) -> bytes:
        sound = pcm if self._to_16k is None else self._to_16k.resample_chunk(pcm)
        sound = np.concatenate([self._left, sound])
        frames = len(sound) // FRAME_SAMPLES
        self._left = sound[frames * FRAME_SAMPLES :]
        found = [
            self._voice(frame) for frame in sound[: frames * FRAME_SAMPLES].reshape(frames, FRAME_SAMPLES)
        ]
        return np.array(found, "<f4").tobytes()


class Converter:
    """Sound of one rate → int16 of another."""

    def __init__(self, hz: int, to_hz: int):
        self._stream = soxr.ResampleStream(hz, to_hz, 1, dtype="int16", quality="LQ")

    def take(self, pcm: np.ndarray, last: bool) -> bytes:
        found: bytes = self._stream.resample_chunk(pcm, last=last).astype("<i2").tobytes()
        return found


def serve(connection: socket.socket) -> None:
    model = load_model()
    streams: dict[int, Detector | Converter] = {}
    receive = _receiver(connection)
    while (head := receive(HEAD.size)) is not None:
        length, stream, kind = HEAD.unpack(head)
        payload = receive(length)
        if payload is None:
            return
        if kind == CLOSE:
            streams.pop(stream, None)
        elif kind == OPEN_DETECTOR:
            streams[stream] = Detector(RATES.unpack(payload)[0], model)
        elif kind == OPEN_CONVERTER:
            streams[stream] = Converter(*RATES.unpack(payload))
        elif stream in streams:
            found = streams[stream].take(np.frombuffer(payload, "<i2"), kind == LAST)
            connection.sendall(HEAD.pack(len(found), stream, kind) + found)


def _receiver(connection: socket.socket) -> Callable[[int], bytes | None]:
    file = connection.makefile("rb")

    def receive(count: int) -> bytes | None:
        """So many bytes, or None at the end."""
        data = file.read(count)
        return data if len(data) == count else None

    return receive


def main() -> int:
    # Ctrl-C reaches the whole group; the door ends this process by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The door may go at any moment.
    with (
        socket.socket(fileno=int(sys.argv[1])) as connection,
        suppress(BrokenPipeError, ConnectionResetError),
    ):
        serve(connection)
    return 0


if __name__ == "__main__":
    sys.exit(main())
