"""What uploads do to the streams of others: the time between two responses of theirs, before and meanwhile."""

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
    """Seconds. answered_s: until all uploads had their first token."""

    quiet: list[float]
    busy: list[float]
    answered_s: float


async def beside(url: str, files: Sequence[bytes]) -> Gaps:
    """READERS endless text streams on the server at `url`: quiet, while all files are asked about at once, quiet."""
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
