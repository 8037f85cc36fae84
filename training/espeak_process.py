"""Runs espeak-ng in a process of its own.

espeak-ng is GPL, so the trainer never loads it. `python -m training.espeak_process` reads one JSON request per line
and writes samples back. It forks for each request: espeak-ng carries noise generators and phases from one utterance
to the next, and only a fresh copy gives the same samples for the same words and voice. Its generator
of breath is seeded here, since espeak-ng seeds it by the clock.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import BinaryIO

import numpy as np

ESPEAK_HZ = 22050

# Constants of espeak-ng's C interface (speak_lib.h).
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_RATE, _PITCH, _RANGE, _WORD_GAP = 1, 3, 4, 7


@dataclass(frozen=True)
class Utterance:
    """A text to speak: voice, rate in words per minute, pitch (0-99) and pitch range (0-99)."""

    text: str
    voice: str
    rate: int = 170
    pitch: int = 50
    pitch_range: int = 50
    word_gap_10ms: int = 0


class Espeak:
    """A running espeak-ng process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "training.espeak_process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def say(self, utterance: Utterance) -> np.ndarray:
        """Synthesise float32 [n] in -1..1 at 22 050 Hz. Raises ValueError when espeak-ng has no such voice."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asdict(utterance)).encode() + b"\n")
        self._process.stdin.flush()
        (count,) = struct.unpack("<i", self._process.stdout.read(4))
        if count < 0:
            raise ValueError(f"espeak-ng has no voice {utterance.voice!r}")
        pcm = np.frombuffer(self._process.stdout.read(2 * count), "<i2")
        return pcm.astype(np.float32) / 32768

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def _load_library() -> tuple[ctypes.CDLL, list[bytes]]:
    """Load and initialise the library; returns it and the list that its callback fills with 16-bit samples."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    blocks: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def take(samples: int | None, count: int, _events: int | None) -> int:
        if samples:
            blocks.append(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(take)
    library.take_callback = take  # ctypes frees a callback without a reference
    return library, blocks


def _speak(library: ctypes.CDLL, blocks: list[bytes], utterance: Utterance) -> bytes | None:
    if library.espeak_SetVoiceByName(utterance.voice.encode()) != 0:
        return None
    library.espeak_SetParameter(_RATE, utterance.rate, 0)
    library.espeak_SetParameter(_PITCH, utterance.pitch, 0)
    library.espeak_SetParameter(_RANGE, utterance.pitch_range, 0)
    library.espeak_SetParameter(_WORD_GAP, utterance.word_gap_10ms, 0)
    text = utterance.text.encode()
    library.espeak_Synth(text, len(text) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
    return b"".join(blocks)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer each request line with its sample count (-1: no such voice) and its samples."""
    library, blocks = _load_library()
    for line in requests:
        child = os.fork()
        if child == 0:
            pcm = _speak(library, blocks, Utterance(**json.loads(line)))
            answers.write(struct.pack("<i", -1) if pcm is None else struct.pack("<i", len(pcm) // 2) + pcm)
            answers.flush()
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
