"""The offline voice: eSpeak NG, no weights, no root; it comes with `make setup`.

eSpeak NG is under the GPL. The wheel `espeakng-loader` brings its library and data; this module only
starts `espeak_worker.py` as a separate program and exchanges text and PCM with it over pipes, so no GPL
code is loaded into the server.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import selectors
import shutil
import struct
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from af3.speech.voice import Pcm, VoiceFailed

# Our name → eSpeak NG's: a language file, then a speaker variant.
VOICES = {
    "en-us": "en-us",
    "en-us-female": "en-us+f3",
    "en-gb": "en-gb-x-rp",
    "en-gb-female": "en-gb-x-rp+f2",
    "en-gb-scotland": "en-gb-scotland",
}
WORDS_PER_MINUTE = 175  # eSpeak NG's own speed; it takes 80–450
STEP_TIMEOUT_S = 10.0  # 100 ms of audio take it a fraction of a millisecond: this is a hang


class EspeakSynthesizer:
    """`processes` eSpeak NG programs, each speaking one segment at a time."""

    voices = tuple(VOICES)

    def __init__(self, processes: int):
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._workers = [_Worker() for _ in range(processes)]
        for worker in self._workers:
            self._idle.put(worker)

    def voice(self, name: str, rate: float) -> EspeakVoice:
        return EspeakVoice(self._idle, VOICES[name], round(WORDS_PER_MINUTE * rate))

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()


class EspeakVoice:
    """One eSpeak NG speaker; it borrows an idle process for each segment."""

    def __init__(self, idle: queue.LifoQueue[_Worker], name: str, words_per_minute: int):
        self._idle = idle
        self._name = name
        self._words_per_minute = words_per_minute
        self.sample_rate = ESPEAK_HZ

    def speakable(self, text: str) -> str:
        """Without what an English eSpeak NG voice would spell out by its script's name ("Chinese letter")."""
        kept = "".join(character for character in text if _is_pronounced(character))
        return kept if any(character.isalnum() for character in kept) else ""

    def speak(self, text: str) -> Iterator[Pcm]:
        request = {"voice": self._name, "words_per_minute": self._words_per_minute, "text": text}
        worker = self._idle.get()
        try:
            yield from worker.speak(json.dumps(request).encode() + b"\n")
        finally:
            self._idle.put(worker)


ESPEAK_HZ = 22050  # of every eSpeak NG voice but MBROLA's, which the wheel does not bring


def _is_pronounced(character: str) -> bool:
    return not character.isalpha() or "LATIN" in unicodedata.name(character, "")


class _Worker:
    """One eSpeak NG process, started again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def speak(self, request: bytes) -> Iterator[Pcm]:
        """One request line → its PCM blocks. A process that died before the first block is replaced once."""
        try:
            block = self._ask(request)
        except (OSError, EOFError):
            self._restart()
            try:
                block = self._ask(request)
            except (OSError, EOFError) as error:
                self._restart()
                raise VoiceFailed("the eSpeak NG process died twice on one segment") from error
        try:
            while block is not None:
                try:
                    yield block
                except GeneratorExit:
                    self._tell(b"-")
                    while self._read_block() is not None:
                        pass
                    raise
                self._tell(b"+")
                block = self._read_block()
        except (OSError, EOFError) as error:
            self._restart()
            raise VoiceFailed("the eSpeak NG process died in the middle of a segment") from error

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
