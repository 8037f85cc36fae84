"""Measures start-up time, memory at rest, and memory growth over ten thousand requests."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from clients.aio import AsyncAudioFlamingo
from perf import observe, traffic
from perf.place import served
from perf.targets.target_finding import Finding

REQUESTS, AT_ONCE, STEPS = 10_000, 16, 5
MIB = 1 << 20
FLAT = 1.05  # allowed growth after the first fifth, which fills caches and arenas


def at_rest() -> list[Finding]:
    """Measure `make serve GPU=cpu` on existing engines."""
    with served("cpu", Path.cwd()) as place:
        assert place.pid is not None and place.ready_s is not None
        memory = observe.memory_bytes(place.pid)
    return [
        Finding("ready after `make serve`", "≤ 5 s", f"{place.ready_s:.1f} s", place.ready_s <= 5),
        Finding(
            "memory at rest, all processes", "≤ 1.2 GB", f"{memory / MIB:.0f} MiB", memory <= 1_200_000_000
        ),
    ]


def soak() -> list[Finding]:
    """Measure memory after each fifth of ten thousand requests: clips of many lengths, every tenth without a clip."""
    with served("cpu", Path.cwd()) as place:
        assert place.pid is not None
        used = [observe.memory_bytes(place.pid)]
        for part in range(STEPS):
            asyncio.run(_ask(place.url, part * REQUESTS // STEPS, REQUESTS // STEPS))
            used.append(observe.memory_bytes(place.pid))
    sizes = ", ".join(f"{size / MIB:.0f}" for size in used)
    return [
        Finding(
            f"memory over {REQUESTS} requests",
            "flat",
            f"{sizes} MiB at rest and after each fifth",
            used[-1] <= FLAT * used[1],
        )
    ]


async def _ask(url: str, first: int, count: int) -> None:
    numbers = itertools.count(first)
    clips = {number: traffic.clip(0.3 + 0.1 * number, number) for number in range(40)}

    async def client() -> None:
        while (number := next(numbers)) < first + count:
            audio = [clips[number % len(clips)]] if number % 10 else []
            await flamingo.ask(audio, f"What is number {number}?", max_tokens=4).text()

    async with AsyncAudioFlamingo(url) as flamingo:
        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
