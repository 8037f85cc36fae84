"""Ten minutes of MP3: what preprocess takes for it, and what eight uploads at once do to the streams of others."""

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
from clients.aio import AsyncAudioFlamingo
from perf import traffic
from perf.place import endless_served
from perf.profile import spread
from perf.targets.target_finding import Finding

UPLOADS, READERS = 8, 2
QUIET_S = 10.0
RATE_HZ = 44_100


def preprocess() -> list[Finding]:
    """Processor seconds from bytes to tensors, those of the decoder process (its start among them) included."""
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
    """Gaps between the responses of text streams: quiet, while eight uploads are served, quiet again."""
    with endless_served("cpu") as place:
        quiet, busy, answered_s = asyncio.run(_gaps(place.url))
    calm, loaded = spread(quiet), spread(busy)
    assert calm.p99 and loaded.p99 and calm.p50 and loaded.p50
    return [
        Finding(
            f"gap between responses of {READERS} other streams during {UPLOADS} uploads of ten minutes, p99",
            "≤ 2× quiet",
            f"{loaded.p99 / calm.p99:.1f}×: {1000 * loaded.p99:.0f} ms, quiet {1000 * calm.p99:.0f} ms"
            f" (p50 {1000 * loaded.p50:.1f} and {1000 * calm.p50:.1f} ms); the uploads took {answered_s:.0f} s",
            loaded.p99 <= 2 * calm.p99,
        )
    ]


def song(number: int = 0) -> bytes:
    """Ten minutes of the samples, stereo; another number is another clip."""
    mono = np.resize(np.roll(traffic.samples(), -number * RATE_HZ), 600 * RATE_HZ)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE_HZ, 2, format="MP3", bitrate_mode="CONSTANT") as writer:
        for start in range(0, len(mono), RATE_HZ):
            block = mono[start : start + RATE_HZ]
            writer.write(np.stack([block, 0.5 * block], 1))
    return file.getvalue()


async def _gaps(url: str) -> tuple[list[float], list[float], float]:
    files = [song(number) for number in range(UPLOADS)]
    quiet: list[float] = []
    busy: list[float] = []
    gaps = quiet
    done = asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            last = None
            async for _ in flamingo.ask([], "Tell me a story.", max_tokens=1024):
                now = time.monotonic()
                if last is not None:
                    gaps.append(now - last)
                last = now

    async with AsyncAudioFlamingo(url) as flamingo:
        readers = [asyncio.create_task(read()) for _ in range(READERS)]
        await asyncio.sleep(QUIET_S)
        gaps = busy
        started = time.monotonic()
        answers = [flamingo.ask(file, "What do you hear?", max_tokens=1).text() for file in files]
        await asyncio.gather(*answers)
        answered_s = time.monotonic() - started
        gaps = quiet
        await asyncio.sleep(QUIET_S)
        done.set()
        await asyncio.gather(*readers)
    return quiet, busy, answered_s
