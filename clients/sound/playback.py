"""Speech while it arrives: where it goes, how much of it was heard, and how well it flowed.

Long because what plays, what is heard and how it flowed share one clock.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioFlamingoError

Pcm = NDArray[np.int16]

# Programs that play raw 16-bit mono from stdin; the first that is there is taken.
PLAYERS = (
    ("pw-play", "--format=s16", "--rate={hz}", "--channels=1", "-"),
    ("paplay", "--raw", "--format=s16le", "--rate={hz}", "--channels=1", "--latency-msec=50"),
    ("aplay", "-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", "{hz}", "--buffer-time=50000"),
    ("play", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-c", "1", "-r", "{hz}", "-"),
    ("ffplay", "-loglevel", "quiet", "-nodisp", "-autoexit", "-f", "s16le", "-ar", "{hz}", "-ac", "1", "-"),
)
WAV_HEADER_BYTES = 44


class Playhead:
    """Where a listener is who hears every block as soon as it comes and the one before has ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._until_s = 0.0
        self.total_s = 0.0
        self.underruns = 0
        self.waited_s = 0.0  # silence that was not in the speech

    def add(self, seconds: float) -> None:
        """A block of so many seconds has come."""
        now = self._clock()
        if self.total_s and now > self._until_s:
            self.underruns += 1
            self.waited_s += now - self._until_s
        self._until_s = max(now, self._until_s) + seconds
        self.total_s += seconds

    @property
    def heard_s(self) -> float:
        return self.total_s - self.left_s

    @property
    def left_s(self) -> float:
        """Until all that has come is heard."""
        return max(0.0, self._until_s - self._clock())


class Output(Protocol):
    """Where speech goes."""

    def play(self, pcm: Pcm, hz: int) -> None:
        """Take a block; does not wait until it is heard."""
        ...

    def stop(self) -> None:
        """Be silent at once; what was not yet heard is dropped. From any thread."""
        ...

    def drain(self) -> None:
        """Wait until all that was taken is heard, or `stop` is called."""
        ...

    def close(self) -> None: ...


class Nowhere:
    """No loudspeaker and no file: only the figures are wanted."""

    def play(self, pcm: Pcm, hz: int) -> None:
        pass

    def stop(self) -> None:
        pass

    def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


class WavFile:
    """A WAV file that is valid after every write, so also when the program is interrupted or killed."""

    def __init__(self, path: Path):
        """Raises AudioFlamingoError when the file cannot be written."""
        self._path = path
        self._data_bytes = 0
        self._hz = 0
        with self._named():
            # Without a buffer nothing is left for `close` to write, which may fail too.
            self._file = path.open("wb", buffering=0)
            self._write(self._header(16000))  # a file without sound; its rate is not known yet

    def play(self, pcm: Pcm, hz: int) -> None:
        """Raises AudioFlamingoError when the rate has changed or the file cannot be written."""
        if self._hz and hz != self._hz:
            raise AudioFlamingoError(
                "INVALID_ARGUMENT", f"the speech changed from {self._hz} to {hz} Hz; write a file per voice"
            )
        data = pcm.astype("<i2").tobytes()
        self._data_bytes += len(data)
        with self._named():
            if self._hz:
                self._write(data)
                self._file.seek(0)
                self._write(self._header(hz))
            else:  # one write: the file never holds speech at a rate that is not its own
                self._file.seek(0)
                self._write(self._header(hz) + data)
            self._file.seek(0, 2)
        self._hz = hz

    def stop(self) -> None:
        """What was written stays."""

    def drain(self) -> None:
        """A file needs no waiting."""

    def close(self) -> None:
        self._file.close()

    def _write(self, data: bytes) -> None:
        while data:  # a disk that is nearly full takes a part
            data = data[self._file.write(data) :]

    def _header(self, hz: int) -> bytes:
        return struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            *(b"RIFF", WAV_HEADER_BYTES - 8 + self._data_bytes, b"WAVE", b"fmt ", 16),
            *(1, 1, hz, 2 * hz, 2, 16, b"data", self._data_bytes),
        )

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Name the file in what the system says against it."""
        try:
            yield
        except OSError as error:
            raise AudioFlamingoError("INVALID_ARGUMENT", f"--out {self._path}: {error.strerror}") from None


class Loudspeaker:
    """A program that plays what is written to it, one process for each answer."""

    def __init__(self, command: tuple[str, ...]):
        self._command = command
        self._playing: _Player | None = None

    @classmethod
    def find(cls) -> Loudspeaker | None:
        """With the first of PLAYERS that is installed; None when there is none."""
        command = next((command for command in PLAYERS if shutil.which(command[0])), None)
        return None if command is None else cls(command)

    def play(self, pcm: Pcm, hz: int) -> None:
        if self._playing is None:
            self._playing = _Player([part.format(hz=hz) for part in self._command])
        self._playing.blocks.put(pcm.tobytes())

    def stop(self) -> None:
        playing, self._playing = self._playing, None  # what comes next is played by a new one
        if playing is not None:
            playing.kill()

    def drain(self) -> None:
        playing = self._playing
        if playing is None:
            return
        playing.finish()
        if self._playing is playing:  # `stop` may have been called meanwhile
            self._playing = None

    def close(self) -> None:
        self.stop()


class _Player:
    """One process that plays, and the thread that feeds it.

    Whole once it is made: Ctrl-C may come at any moment of its making, and whoever cleans up then must not meet
    half of it. The thread is a daemon for the same reason: nothing waits for one that nobody knows.
    """

    def __init__(self, command: list[str]):
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.blocks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, args=(self._process, self.blocks), daemon=True)
        self._writer.start()

    def kill(self) -> None:
        """Be silent at once."""
        self._process.kill()
        self.blocks.put(None)
        self._process.wait()
        self._writer.join()

    def finish(self) -> None:
        """Wait until all is played."""
        self.blocks.put(None)
        self._writer.join()
        self._process.wait()

    @staticmethod
    def _write(process: subprocess.Popen[bytes], blocks: queue.SimpleQueue[bytes | None]) -> None:
        assert process.stdin is not None
        # The program may be killed, or end by itself: then the rest has no listener.
        with contextlib.suppress(OSError):
            while (block := blocks.get()) is not None:
                process.stdin.write(block)
                process.stdin.flush()
        with contextlib.suppress(OSError):
            process.stdin.close()


@dataclass(frozen=True)
class _Spoken:
    start_s: float
    text: str


class Transcript:
    """Finds the part of an answer's text that has been heard."""

    def __init__(self) -> None:
        self._segments: list[_Spoken] = []

    def begins(self, text: str, at_s: float) -> None:
        """From `at_s` seconds of speech on `text` is spoken."""
        self._segments.append(_Spoken(at_s, text))

    def heard(self, heard_s: float, total_s: float) -> str:
        """The text of the first `heard_s` of `total_s` seconds of speech, to the last whole word.

        Within a segment words are taken to be equally fast per character.
        """
        marks_s = [*(segment.start_s for segment in self._segments), total_s]
        text = ""
        for segment, end_s in zip(self._segments, marks_s[1:], strict=True):
            if heard_s >= end_s:
                text += segment.text
            elif heard_s > segment.start_s:
                share = (heard_s - segment.start_s) / (end_s - segment.start_s)
                text += _whole_words(segment.text, int(share * len(segment.text)))
        return text.rstrip()


def _whole_words(text: str, length: int) -> str:
    """The longest beginning of `text` of at most `length` characters that ends with a word."""
    if length >= len(text) or text[length].isspace():
        return text[:length]
    return text[: text.rfind(" ", 0, length) + 1]


@dataclass(frozen=True)
class Figures:
    """Timing of one spoken answer, in seconds from the request unless said otherwise."""

    first_text_s: float | None
    first_audio_s: float | None
    speech_s: float  # length of the speech
    real_time_factor: float | None  # from the first to the last block, over the length of the speech
    longest_gap_s: float  # between two blocks
    underruns: int  # times a listener would have run dry

    def __str__(self) -> str:
        if self.first_text_s is None or self.first_audio_s is None or self.real_time_factor is None:
            return "no speech"
        return (
            f"first text {self.first_text_s:.2f} s, first audio {self.first_audio_s:.2f} s, "
            f"{self.speech_s:.1f} s of speech, RTF {self.real_time_factor:.2f}, "
            f"longest gap {self.longest_gap_s:.2f} s, {self.underruns} underrun(s)"
        )


class Meter:
    """Takes the figures of one answer while it arrives."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._sent_s = clock()
        self._first_text_s: float | None = None
        self._blocks_s: list[float] = []
        self.playhead = Playhead(clock)

    def text(self) -> None:
        """Some text has come."""
        if self._first_text_s is None:
            self._first_text_s = self._clock() - self._sent_s

    def speech(self, seconds: float) -> None:
        """A block of speech has come."""
        self._blocks_s.append(self._clock() - self._sent_s)
        self.playhead.add(seconds)

    def figures(self) -> Figures:
        times = self._blocks_s
        return Figures(
            first_text_s=self._first_text_s,
            first_audio_s=times[0] if times else None,
            speech_s=self.playhead.total_s,
            real_time_factor=(times[-1] - times[0]) / self.playhead.total_s if times else None,
            longest_gap_s=float(np.diff(times).max()) if len(times) > 1 else 0.0,
            underruns=self.playhead.underruns,
        )
