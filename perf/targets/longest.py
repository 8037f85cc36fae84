"""Measures the longest clip that the served model accepts, as a large file, and its effect on other streams."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from af3.manifest import Manifest
from perf import observe, traffic
from perf.place import endless_served
from perf.profile import spread
from perf.targets.gaps import READERS, beside
from perf.targets.target_finding import Finding

RATE_HZ = 44_100
EVERY_S = 0.5
MIB = 1 << 20


def longest() -> list[Finding]:
    """Measure time, peak memory by process and gaps in two other streams for a 44.1 kHz stereo WAV."""
    seconds = Manifest.read(Path("engines/cpu")).limits.max_clip_seconds
    file = recording(seconds)
    with endless_served("cpu") as place:
        assert place.pid is not None
        with _peaks(place.pid) as peaks:
            gaps = asyncio.run(beside(place.url, [file]))
    calm, loaded = spread(gaps.quiet), spread(gaps.busy)
    assert calm.p99 and loaded.p99
    used = ", ".join(
        f"{name} {size / MIB:.0f}" for name, size in sorted(peaks.items(), key=lambda item: -item[1])
    )
    size = f"{len(file) / 1e6:.0f} MB of WAV, {seconds} s"
    return [
        Finding(f"answer to {size}, one token", "–", f"{gaps.answered_s:.0f} s", None),
        Finding("peak memory by process, MiB", "–", used, None),
        Finding(
            f"gap between responses of {READERS} other streams meanwhile, p99",
            "≤ 2× quiet",
            f"{loaded.p99 / calm.p99:.1f}×: {1000 * loaded.p99:.0f} ms, quiet {1000 * calm.p99:.0f} ms, longest"
            f" {1000 * max(gaps.busy):.0f} and {1000 * max(gaps.quiet):.0f} ms",
            loaded.p99 <= 2 * calm.p99,
        ),
    ]


def recording(seconds: int) -> bytes:
    """Repeat the samples as a stereo 16-bit WAV."""
    mono = np.resize(traffic.samples(), seconds * RATE_HZ)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE_HZ, 2, "PCM_16", format="WAV") as writer:
        for start in range(0, len(mono), RATE_HZ):
            block = mono[start : start + RATE_HZ]
            writer.write(np.stack([block, 0.5 * block], 1))
    return file.getvalue()


@contextmanager
def _peaks(pid: int) -> Iterator[dict[str, int]]:
    """Track peak resident memory in bytes by process name."""
    highest: dict[int, tuple[str, int]] = {}
    found: dict[str, int] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(EVERY_S):
            for each, name in observe.processes(pid).items():
                highest[each] = (name, max(_peak(each), highest.get(each, (name, 0))[1]))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        done.set()
        watching.join()
        for name, size in highest.values():
            found[name] = found.get(name, 0) + size


def _peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
