"""Requests for the sweeps: clips of any length out of the real samples, as perf_analyzer's input file.

Every row of a file is a clip of its own (the samples one after the other from another place on), so that no cache
answers unless a load asks for that; and its prompt is unique in the file, by which an export tells rows apart.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from af3 import contract
from af3.inputs import audio

SAMPLES = Path(__file__).resolve().parents[1] / "checkpoints" / "samples"
# Long clips compressed, which is how people send them, and because an export repeats the bytes of every request.
FLAC_FROM_S = 30


@dataclass(frozen=True)
class Row:
    """One request. audio_s: 0 for one without a clip."""

    prompt: str
    audio_s: float
    file: bytes


def rows(lengths_s: Sequence[float], count: int, question: str = "What do you hear?") -> list[Row]:
    """`count` rows whose clips take the given lengths in turn."""
    return [_row(lengths_s[number % len(lengths_s)], number, question) for number in range(count)]


def clip(seconds: float, number: int) -> bytes:
    """Clip `number` of that length, a whole file: real samples in a row, no two clips beginning alike."""
    pcm = samples()
    start = int(number * 0.618 * len(pcm)) % len(pcm)
    length = round(seconds * audio.SAMPLE_RATE)
    long_enough = np.resize(np.roll(pcm, -start), length)
    file = io.BytesIO()
    kind = "FLAC" if seconds >= FLAC_FROM_S else "WAV"
    soundfile.write(file, long_enough, audio.SAMPLE_RATE, format=kind)
    return file.getvalue()


@cache
def samples() -> np.ndarray:
    """All samples one after the other, float32 [n] at 16 kHz."""
    files = sorted(
        path for path in SAMPLES.iterdir() if path.suffix.upper().removeprefix(".") in audio.FORMATS
    )
    return np.concatenate([audio.decode(path.read_bytes(), path.name) for path in files])


def write(rows: Sequence[Row], path: Path) -> None:
    """perf_analyzer's input file. BYTES go as base64 of the element with its length, as on the wire."""
    data = [
        {
            contract.AUDIO.name: {"content": {"b64": _element(row.file)}, "shape": [1]},
            contract.PROMPT.name: {"content": [row.prompt], "shape": [1]},
        }
        for row in rows
    ]
    path.write_text(json.dumps({"data": data}))


def _row(seconds: float, number: int, question: str) -> Row:
    return Row(f"{question} ({number})", seconds, clip(seconds, number))


def _element(file: bytes) -> str:
    return base64.b64encode(len(file).to_bytes(4, "little") + file).decode()
