"""Measures how uploads disturb other streams: the gaps between their responses, before and during the uploads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from clients.aio import AsyncAudioFlamingo

READERS = 2
QUIET_S = 10.0


@dataclass(frozen=True)
class Gaps:
    """Gaps in seconds. answered_s: until all uploads had their first token."""

    quiet: list[float]
    busy: list[float]
    answered_s: float


async def beside(url: str, files: Sequence[bytes]) -> Gaps:
    """Run READERS endless text streams at `url`: alone, while all `files` are asked about at once, and alone again."""
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
    return Gaps(quiet, busy, answered_s)
