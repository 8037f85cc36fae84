"""Makes the sweeps' requests: clips of any length cut from the real samples, as perf_analyzer's input file.

Every row has a clip of its own, so that no cache answers unless a load wants it, and a unique prompt, which
identifies the row in an export.
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
# Long clips are compressed: people send them so, and an export repeats the bytes of every request.
FLAC_FROM_S = 30
PIECE_SAMPLES = audio.SAMPLE_RATE // 4
QUIET = 0.02  # pieces with a lower peak are silence and left out
NOISE = 0.001  # -60 dB: room noise, which makes equal stretches of two clips differ
_numbers = count_from()


@dataclass(frozen=True)
class Row:
    """One request. audio_s: 0 without a clip."""

    prompt: str
    audio_s: float
    file: bytes


def rows(lengths_s: Sequence[float], count: int, question: str = "What do you hear?") -> list[Row]:
    """Make `count` rows whose clips take the given lengths in turn; no clip repeats, also across calls."""
    return [_row(lengths_s[number % len(lengths_s)], next(_numbers), question) for number in range(count)]


def clip(seconds: float, number: int, kind: str = "") -> bytes:
    """Make clip `number` of that length, WAV or FLAC: sounds of the samples, in an order and at a loudness of its own.

    None of its windows equals one of another number, so no cache has it; none is silence, which every clip could share.
    """
    length = round(seconds * audio.SAMPLE_RATE)
    file = io.BytesIO()
    kind = kind or ("FLAC" if seconds >= FLAC_FROM_S else "WAV")
    soundfile.write(file, _sound(length, number), audio.SAMPLE_RATE, format=kind)
    return file.getvalue()


@cache
def samples() -> np.ndarray:
    """Concatenate the audible parts of all samples: float32 [n] at 16 kHz."""
    files = sorted(path for path in SAMPLES.iterdir() if file_kind(path.read_bytes()).is_sound)
    pcm = np.concatenate([decode(path.read_bytes(), path.name) for path in files])
    pieces = pcm[: len(pcm) // PIECE_SAMPLES * PIECE_SAMPLES].reshape(-1, PIECE_SAMPLES)
    sounding: np.ndarray = pieces[np.abs(pieces).max(axis=1) > QUIET].reshape(-1)
    return sounding


def _sound(length: int, number: int) -> np.ndarray:
    """Cut float32 [length] from the samples; `number` draws the place, the loudness and the noise."""
    random = np.random.default_rng(number)
    start, gain = random.integers(len(samples())), random.uniform(0.4, 0.9)
    noise = random.standard_normal(length, np.float32) * NOISE
    sound: np.ndarray = np.resize(np.roll(samples(), -start), length) * np.float32(gain) + noise
    return sound


def write(rows: Sequence[Row], path: Path) -> None:
    """Write perf_analyzer's input file. BYTES are base64 of the length-prefixed element, as on the wire."""
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
