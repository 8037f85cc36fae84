"""`polygraphy run` loads this to compare a TensorRT engine with ONNX Runtime: inputs for each profile, and the bound.

Polygraphy imports this file by its path and calls its functions by name, also inside the container; so it needs only
numpy, and torch where unavoidable.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

SAMPLE_RATE = 16000
# BF16 keeps 8 bits: one rounding is off by up to 0.4 %, and 32 layers add up. Four layers at full width gave 1 %.
RELATIVE_ERROR_BOUND = 0.05

Feed = dict[str, Any]


def short() -> Iterator[Feed]:
    """A 5.3 s clip, padded to 6 s."""
    yield _feed(samples=6 * SAMPLE_RATE, lengths=[84_800])


def full() -> Iterator[Feed]:
    """One full window."""
    yield _feed(samples=30 * SAMPLE_RATE, lengths=[480_000])


def many() -> Iterator[Feed]:
    """Two windows; the second lacks its last 12 s."""
    yield _feed(samples=30 * SAMPLE_RATE, lengths=[480_000, 288_000])


def short_placed() -> Iterator[Feed]:
    """As `short`, with each window's index in its clip, for models with RoTE."""
    yield from _placed(short(), [7])


def full_placed() -> Iterator[Feed]:
    yield from _placed(full(), [19])


def many_placed() -> Iterator[Feed]:
    yield from _placed(many(), [0, 1])


def short_placed_torch() -> Iterator[Feed]:
    return _as_torch(short_placed())


def full_placed_torch() -> Iterator[Feed]:
    return _as_torch(full_placed())


def many_placed_torch() -> Iterator[Feed]:
    return _as_torch(many_placed())


def short_torch() -> Iterator[Feed]:
    return _as_torch(short())


def full_torch() -> Iterator[Feed]:
    return _as_torch(full())


def many_torch() -> Iterator[Feed]:
    return _as_torch(many())


def compare_outputs(first: Mapping[str, Any], second: Mapping[str, Any]) -> OrderedDict[str, bool]:
    """Check that each output's relative L2 error is at most RELATIVE_ERROR_BOUND."""
    agreed = OrderedDict[str, bool]()
    for name in first:
        error = relative_error(_to_numpy(first[name]), _to_numpy(second[name]))
        print(f"{name}: relative error {error:.4f} (bound {RELATIVE_ERROR_BOUND})")
        agreed[name] = bool(error <= RELATIVE_ERROR_BOUND)
    return agreed


def relative_error(values: np.ndarray, reference: np.ndarray) -> float:
    """‖values - reference‖ / ‖reference‖; NaN when a value is NaN. Raises ValueError when the shapes differ."""
    if values.shape != reference.shape:
        raise ValueError(f"shapes {values.shape} and {reference.shape} differ")
    return float(np.linalg.norm(values - reference) / np.linalg.norm(reference))


def _feed(samples: int, lengths: list[int]) -> Feed:
    """Chords in noise, float32 [windows, samples], zero past each length. RandomState gives the same in every numpy."""
    draw = np.random.RandomState(4)
    time = np.arange(samples) / SAMPLE_RATE
    pcm = np.zeros((len(lengths), samples), np.float32)
    for row, length in zip(pcm, lengths, strict=True):
        pitches = draw.uniform(100, 3000, size=3)
        chord = np.sin(2 * np.pi * pitches[:, None] * time[:length]).mean(0)
        row[:length] = 0.3 * chord + 0.05 * draw.standard_normal(length)
    return {"pcm": pcm, "pcm_lengths": np.array(lengths, np.int64)}


def _placed(feeds: Iterator[Feed], places: list[int]) -> Iterator[Feed]:
    for feed in feeds:
        yield feed | {"window_index": np.array(places, np.int64)}


def _as_torch(feeds: Iterator[Feed]) -> Iterator[Feed]:
    import torch

    for feed in feeds:
        yield {name: torch.from_numpy(values) for name, values in feed.items()}


def _to_numpy(values: Any) -> np.ndarray:
    return np.asarray(values.float() if hasattr(values, "float") else values, np.float64)
