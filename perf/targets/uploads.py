"""Measures preprocess on ten minutes of MP3, and how eight uploads at once disturb other streams."""

from __future__ import annotations

import asyncio
import io
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import soundfile

from af3.inputs.prepare import Preprocessor
from perf import traffic
from perf.place import endless_served
from perf.profile import spread
from perf.targets.gaps import READERS, beside
from perf.targets.target_finding import Finding

UPLOADS = 8
RATE_HZ = 44_100


def preprocess() -> list[Finding]:
    """Measure processor seconds from bytes to tensors, including the decoder process and its start."""
    file = song()
    preprocessor = Preprocessor.load(Path("engines/cpu"))
    spent = []
    for _ in range(5):
        started = time.process_time()
        preprocessor.prepare("target", {"max_tokens": 8}, [file], "What do you hear?", None)
        spent.append(time.process_time() - started)
    before_s = _children_s()
    preprocessor.close()
    spent = [own_s + (_children_s() - before_s) / len(spent) for own_s in spent]
    return [
        Finding(
            f"preprocess of a 10-minute 44.1 kHz stereo MP3 ({len(file) / 1e6:.0f} MB)",
            "≤ 1.5 s of one core",
            f"{statistics.median(spent):.2f} s ({min(spent):.2f}–{max(spent):.2f})",
            statistics.median(spent) <= 1.5,
        )
    ]


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def uploads() -> list[Finding]:
    """Measure gaps between responses of text streams before, during and after eight uploads."""
    with endless_served("cpu") as place:
        gaps = asyncio.run(beside(place.url, [song(number) for number in range(UPLOADS)]))
    calm, loaded = spread(gaps.quiet), spread(gaps.busy)
    assert calm.p99 and loaded.p99 and calm.p50 and loaded.p50
    return [
        Finding(
            f"gap between responses of {READERS} other streams during {UPLOADS} uploads of ten minutes, p99",
            "≤ 2× quiet",
            f"{loaded.p99 / calm.p99:.1f}×: {1000 * loaded.p99:.0f} ms, quiet {1000 * calm.p99:.0f} ms"
            f" (p50 {1000 * loaded.p50:.1f} and {1000 * calm.p50:.1f} ms); the uploads took {gaps.answered_s:.0f} s",
            loaded.p99 <= 2 * calm.p99,
        )
    ]


def song(number: int = 0) -> bytes:
    """Make ten minutes of the samples in stereo; each number gives another clip."""
    mono = np.resize(np.roll(traffic.samples(), -number * RATE_HZ), 600 * RATE_HZ)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE_HZ, 2, format="MP3", bitrate_mode="CONSTANT") as writer:
        for start in range(0, len(mono), RATE_HZ):
            block = mono[start : start + RATE_HZ]
            writer.write(np.stack([block, 0.5 * block], 1))
    return file.getvalue()
