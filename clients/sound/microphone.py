"""Cuts the PCM of a recording program into utterances."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from ..errors import AudioFlamingoError
from .samples import Samples
from .turn_detector import TurnDetector
from .voice_activity import FRAME_MS, FRAME_SAMPLES, HZ, Frame, VoiceActivity

# Programs that write raw 16-bit mono at 16 kHz to stdout; the first that is there is taken.
RECORDERS = (
    "pw-record --format=s16 --rate=16000 --channels=1 -",
    "parec --raw --format=s16le --rate=16000 --channels=1 --latency-msec=20",
    "arecord -q -t raw -f S16_LE -r 16000 -c 1 --buffer-time=40000",
    "rec -q -t raw -e signed -b 16 -c 1 -r 16000 -",
)
SPEECH = 0.5  # from this probability on
PAUSE_MS = 700  # ends an utterance
BEFORE_MS = 300  # kept from before the start, so that no first sound is lost
LONGEST_MS = 30_000  # then the utterance is sent as it is, and another begins


class UtteranceDetector:
    """Finds where speech starts and ends, by the probability that somebody speaks.

    Noise of any loudness is no speech. A loudspeaker that speaks is heard as somebody: use headphones.
    """

    def __init__(self, speech: Callable[[Frame], float] | None = None) -> None:
        """speech: the probability of speech in a frame; None: the Silero model, which may raise
        AudioFlamingoError.
        """
        self._speech = speech or VoiceActivity()
        self._turns = TurnDetector(SPEECH, PAUSE_MS, LONGEST_MS - BEFORE_MS)
        self._before: deque[Frame] = deque(maxlen=BEFORE_MS // FRAME_MS)
        self._utterance: list[Frame] = []

    def take(self, frame: Frame) -> Literal["start", "stop"] | None:
        """32 ms of the microphone; says where an utterance starts and where it has ended."""
        (self._utterance if self._turns.speaking else self._before).append(frame)
        change = self._turns.take(self._speech(frame))
        if change == "start":
            self._utterance = list(self._before)
            self._before.clear()
        return change

    def utterance(self) -> Samples:
        """The last utterance, with a little of the quiet around it."""
        pcm = np.concatenate(self._utterance)
        return Samples(pcm.astype(np.float32) / 32768, HZ)


class Microphone:
    """A running recording program."""

    def __init__(self, command: str):
        """Raises AudioFlamingoError when the program cannot be started."""
        self._command = command
        self._closed = False
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the program runs
        try:
            self._process = subprocess.Popen(
                shlex.split(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
            )
        except (OSError, ValueError, IndexError) as error:  # not there; a quote is open; nothing is named
            raise AudioFlamingoError(
                "INVALID_ARGUMENT", f"microphone: {command}: {getattr(error, 'strerror', None) or error}"
            ) from None

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
        """Frames of 32 ms, as they are recorded, until the program ends.

        Raises AudioFlamingoError when it fails, or ends without having recorded anything.
        """
        assert self._process.stdout is not None
        size = 2 * FRAME_SAMPLES
        recorded = False
        while len(data := self._process.stdout.read(size)) == size:
            recorded = True
            yield np.frombuffer(data, "<i2")
        code = self._process.wait()
        if (code or not recorded) and not self._closed:
            raise AudioFlamingoError("UNAVAILABLE", f"microphone: {self._ending(code)}")

    def close(self) -> None:
        self._closed = True
        self._process.kill()
        self._process.wait()

    def _ending(self, code: int) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return (
            f"{self._command}: ended with code {code} ({said}); connect a recording device, or name"
            " another program with --microphone"
        )
