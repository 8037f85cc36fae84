"""What the user says: PCM of a recording program, cut into utterances."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections import deque
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clients.errors import AudioFlamingoError
from clients.sound.samples import Samples

HZ = 16000
FRAME_SAMPLES = HZ // 50  # 20 ms
# Programs that write raw 16-bit mono at 16 kHz to stdout; the first that is there is taken.
RECORDERS = (
    "pw-record --format=s16 --rate=16000 --channels=1 -",
    "parec --raw --format=s16le --rate=16000 --channels=1 --latency-msec=20",
    "arecord -q -t raw -f S16_LE -r 16000 -c 1 --buffer-time=40000",
    "rec -q -t raw -e signed -b 16 -c 1 -r 16000 -",
)
START_FRAMES = 3  # 60 ms of voice are speech: interrupting has to work within 100 ms
END_FRAMES = 35  # 700 ms of quiet end an utterance
BEFORE_FRAMES = 15  # 300 ms before the start are kept, so that no first sound is lost
LOUDER = 4.0  # than the quiet of the room: that is voice
QUIETEST_RMS = 100.0  # of 32768

Frame = NDArray[np.int16]


class UtteranceDetector:
    """Finds where speech starts and ends, by its level over that of the room. Deaf to what is said.

    A loudspeaker in the room is heard as speech: use headphones.
    """

    def __init__(self) -> None:
        self._room_rms = QUIETEST_RMS
        self._before: deque[Frame] = deque(maxlen=BEFORE_FRAMES)
        self._utterance: list[Frame] = []
        self._run = 0  # frames in a row that speak for a change
        self._speaking = False

    def take(self, frame: Frame) -> Literal["start", "end"] | None:
        """20 ms of the microphone; says where an utterance starts and where it has ended."""
        rms = float(np.sqrt(np.mean(np.square(frame.astype(np.float32)))))
        loud = rms > LOUDER * self._room_rms
        if not loud:  # follows a quieter room at once, a louder one within seconds
            self._room_rms = max(QUIETEST_RMS, min(rms, 1.02 * self._room_rms))
        self._run = self._run + 1 if loud != self._speaking else 0
        if self._speaking:
            self._utterance.append(frame)
            if self._run < END_FRAMES:
                return None
            self._speaking, self._run = False, 0
            return "end"
        self._before.append(frame)
        if self._run < START_FRAMES:
            return None
        self._speaking, self._run = True, 0
        self._utterance = list(self._before)
        self._before.clear()
        return "start"

    def utterance(self) -> Samples:
        """The last utterance, with a little of the quiet around it."""
        pcm = np.concatenate(self._utterance)
        return Samples(pcm.astype(np.float32) / 32768, HZ)


class Microphone:
    """A running recording program."""

    def __init__(self, command: str):
        """Raises AudioFlamingoError when the program cannot be started."""
        try:
            self._process = subprocess.Popen(
                shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
            )
        except OSError as error:
            raise AudioFlamingoError("INVALID_ARGUMENT", f"microphone: {command}: {error.strerror}") from None

    @staticmethod
    def find() -> str:
        """Command of the first of RECORDERS that is installed. Raises AudioFlamingoError when there is none."""
        for command in RECORDERS:
            if shutil.which(command.split()[0]):
                return command
        raise AudioFlamingoError(
            "INVALID_ARGUMENT",
            "no recording program is installed (pw-record, parec, arecord or rec); install one, name one with"
            " --microphone, or give sound files",
        )

    def __iter__(self) -> Iterator[Frame]:
        """Frames of 20 ms, as they are recorded, until the program ends."""
        assert self._process.stdout is not None
        size = 2 * FRAME_SAMPLES
        while len(data := self._process.stdout.read(size)) == size:
            yield np.frombuffer(data, "<i2")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
