"""Requests for the sweeps: clips of any length out of the real samples, as perf_analyzer's input file.

Every row is a clip of its own, so that no cache answers unless a load asks for that; and its prompt is unique, by
which an export tells rows apart.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count as count_from
from pathlib import Path

import numpy as np
import soundfile

from af3 import contract
from af3.inputs import audio
from af3.inputs.decoding import decode
from af3.inputs.file_kind import file_kind

SAMPLES = Path(__file__).resolve().parents[1] / "checkpoints" / "samples"
# Long clips compressed, which is how people send them, and because an export repeats the bytes of every request.
FLAC_FROM_S = 30
PIECE_SAMPLES = audio.SAMPLE_RATE // 4
QUIET = 0.02  # peak of a piece that is left out of the traffic as silence
NOISE = 0.001  # -60 dB: a room, and what makes equal stretches of two clips differ
_numbers = count_from()


@dataclass(frozen=True)
class Row:
    """One request. audio_s: 0 for one without a clip."""

    prompt: str
    audio_s: float
    file: bytes


def rows(lengths_s: Sequence[float], count: int, question: str = "What do you hear?") -> list[Row]:
    """`count` rows whose clips take the given lengths in turn. No call gives a clip that an earlier one gave."""
    return [_row(lengths_s[number % len(lengths_s)], next(_numbers), question) for number in range(count)]


def clip(seconds: float, number: int) -> bytes:
    """Clip `number` of that length, a whole file: sounds of the samples in an order, at a loudness of its own.

    No window of it equals one of another number, so no cache knows it; and none is silence, which would.
    """
    length = round(seconds * audio.SAMPLE_RATE)
    file = io.BytesIO()
    kind = "FLAC" if seconds >= FLAC_FROM_S else "WAV"
    soundfile.write(file, _sound(length, number), audio.SAMPLE_RATE, format=kind)
    return file.getvalue()


@cache
def samples() -> np.ndarray:
    """What sounds in all samples, one after the other, float32 [n] at 16 kHz; their silence is left out."""
    files = sorted(path for path in SAMPLES.iterdir() if file_kind(path.read_bytes()).is_sound)
    pcm = np.concatenate([decode(path.read_bytes(), path.name) for path in files])
    pieces = pcm[: len(pcm) // PIECE_SAMPLES * PIECE_SAMPLES].reshape(-1, PIECE_SAMPLES)
    sounding: np.ndarray = pieces[np.abs(pieces).max(axis=1) > QUIET].reshape(-1)
    return sounding


def _sound(length: int, number: int) -> np.ndarray:
    """float32 [length]. The samples from a place on, at a loudness, over a noise, all drawn from `number`."""
    random = np.random.default_rng(number)
    start, gain = random.integers(len(samples())), random.uniform(0.4, 0.9)
    noise = random.standard_normal(length, np.float32) * NOISE
    sound: np.ndarray = np.resize(np.roll(samples(), -start), length) * np.float32(gain) + noise
    return sound


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
