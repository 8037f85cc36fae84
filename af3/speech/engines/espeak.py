"""The offline voice: eSpeak NG, which needs no weights and no root, and comes with `make setup`.

eSpeak NG is under the GPL. The wheel `espeakng-loader` has its library and data; this module only starts
`espeak_worker.py` as a separate program and exchanges text and PCM with it over pipes, so no GPL code is loaded into
the server. Neural voices that read phonemes get them from the same program.
"""

from __future__ import annotations

import importlib.util
import json
import queue
import select
import struct
import subprocess
import unicodedata
from collections.abc import Generator
from pathlib import Path

import numpy as np

from af3.python_program import python_program
from af3.speech.engines.offline_voices import VOICES
from af3.speech.segmenter import INSTANT
from af3.speech.spoken.english import in_english
from af3.speech.voice import Pcm, VoiceFailed

SAMPLE_RATE = 22050  # of every voice in the wheel
WORDS_PER_MINUTE = 175  # eSpeak NG's default; it accepts 80 to 450
STEP_TIMEOUT_S = 5.0  # 100 ms of audio take a fraction of a millisecond; this long is a hang


class EspeakSynthesizer:
    """A pool of eSpeak NG processes; each speaks one segment at a time."""

    voices = tuple(VOICES)

    def __init__(self, processes: int):
        self._workers = [_Worker() for _ in range(processes)]
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def voice(self, name: str, rate: float) -> EspeakVoice:
        return EspeakVoice(self._idle, VOICES[name], round(WORDS_PER_MINUTE * rate))

    def phonemes(self, text: str, voice: str) -> str:
        """Return the IPA of `text` in an eSpeak NG voice, with `^` inside phonemes of several letters.

        Punctuation is left out. Raises VoiceFailed.
        """
        worker = self._idle.get()
        try:
            return worker.phonemes(json.dumps({"voice": voice, "phonemes": text}).encode() + b"\n")
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()


class EspeakVoice:
    """One eSpeak NG speaker; it borrows an idle process for each segment."""

    sample_rate = SAMPLE_RATE
    pace = INSTANT

    def __init__(self, idle: queue.LifoQueue[_Worker], name: str, words_per_minute: int):
        self._idle = idle
        self._name = name
        self._words_per_minute = words_per_minute

    def speakable(self, text: str) -> str:
        """English words, without the letters that eSpeak NG would name instead of read ("Chinese letter")."""
        return "".join(character for character in in_english(text) if _is_read(character))

    def speak(self, text: str) -> Generator[Pcm, None, None]:
        request = {"voice": self._name, "words_per_minute": self._words_per_minute, "text": text}
        worker = self._idle.get()
        try:
            yield from worker.speak(json.dumps(request).encode() + b"\n")
        finally:
            self._idle.put(worker)

    def interrupt(self) -> None:
        """Do nothing: a block takes no time, and the caller stops after it."""


def _is_read(character: str) -> bool:
    return character.isascii() or not character.isalnum() or "LATIN" in unicodedata.name(character, "")


class _Worker:
    """One eSpeak NG process, restarted if it dies."""

    def __init__(self) -> None:
        self._process = _start()

    def speak(self, request: bytes) -> Generator[Pcm, None, None]:
        """Send one request line and yield its PCM blocks. Closing the iterator stops eSpeak NG within one block.

        A process that dies meanwhile is replaced, once, and the other goes on where it broke off: a text is always
        spoken the same way.
        """
        sent = 0
        for dies in (1, 2):
            seen = 0
            try:
                _write(self._running(), request)
                while size := _read_number(self._process):
                    pcm = np.frombuffer(_read(self._process, size), np.int16)
                    new = pcm[max(0, sent - seen) :]
                    seen += len(pcm)
                    if len(new):
                        sent += len(new)
                        yield new
                    _write(self._process, b"+")
                return
            except GeneratorExit:
                self._hang_up()
                return
            except (OSError, EOFError) as error:
                self.stop()
                if dies == 2 or isinstance(error, TimeoutError):
                    raise VoiceFailed("the voice broke off in the middle of a segment") from error

    def phonemes(self, request: bytes) -> str:
        """Send one request line for phonemes and return the answer, of a second process where the first dies."""
        for dies in (1, 2):
            try:
                process = self._running()
                _write(process, request)
                return _read(process, _read_number(process)).decode()
            except (OSError, EOFError) as error:
                self.stop()
                if dies == 2 or isinstance(error, TimeoutError):
                    raise VoiceFailed("eSpeak NG broke off while it looked up phonemes") from error
        raise AssertionError("one of both returns or raises")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process.poll() is not None:
            self._process = _start()
        return self._process

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _hang_up(self) -> None:
        try:
            _write(self._process, b"-")
            _read_number(self._process)
        except (OSError, EOFError):
            self.stop()


def _start() -> subprocess.Popen[bytes]:
    """Start an eSpeak NG process and wait until it is ready. It ends with this process, when its stdin closes."""
    wheel = importlib.util.find_spec("espeakng_loader")
    if wheel is None or not wheel.submodule_search_locations:
        raise FileNotFoundError("eSpeak NG is not installed: run `make setup` (pip install espeakng-loader)")
    folder = Path(wheel.submodule_search_locations[0])
    script = Path(__file__).with_name("espeak_worker.py")
    process = subprocess.Popen(
        [python_program(), "-I", "-S", script, folder / "libespeak-ng.so", folder / "espeak-ng-data"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    try:
        if _read_number(process) != SAMPLE_RATE:
            raise OSError(f"eSpeak NG does not speak at {SAMPLE_RATE} Hz")
    except (OSError, EOFError):
        process.kill()
        process.wait()
        raise
    return process


def _write(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)


def _read_number(process: subprocess.Popen[bytes]) -> int:
    number: int = struct.unpack("=I", _read(process, 4))[0]
    return number


def _read(process: subprocess.Popen[bytes], size: int) -> bytes:
    """Read exactly `size` bytes. Raises EOFError if the process ends, TimeoutError if it hangs."""
    assert process.stdout is not None
    ready = select.poll()
    ready.register(process.stdout, select.POLLIN)
    data = b""
    while len(data) < size:
        if not ready.poll(STEP_TIMEOUT_S * 1000):
            raise TimeoutError(f"eSpeak NG said nothing for {STEP_TIMEOUT_S:g} s")
        piece = process.stdout.read(size - len(data))
        if not piece:
            raise EOFError("eSpeak NG ended")
        data += piece
    return data
