"""Measures how uploads disturb other streams: the gaps between their responses, before and during the uploads."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from clients import AudioFlamingo
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
    """Run READERS endless text streams at `url`: alone, while all `files` are asked about at once, and alone again.

    Another process uploads, because this one would read nothing while it builds a request of hundreds of MB.
    """
    quiet: list[float] = []
    busy: list[float] = []
    gaps = quiet
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def read() -> None:
        while not done.is_set():
            last = None
            async for _ in flamingo.ask([], "Tell me a story.", max_tokens=1024):
                now = time.monotonic()
                if last is not None:
                    gaps.append(now - last)
                last = now

    with (
        tempfile.TemporaryDirectory(prefix="af3-uploads-") as folder,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other,
    ):
        paths = [Path(folder, str(number)) for number in range(len(files))]
        for path, file in zip(paths, files, strict=True):
            path.write_bytes(file)
        await loop.run_in_executor(other, upload, url, [])  # it has started
        async with AsyncAudioFlamingo(url) as flamingo:
            readers = [asyncio.create_task(read()) for _ in range(READERS)]
            await asyncio.sleep(QUIET_S)
            gaps = busy
            answered_s = await loop.run_in_executor(other, upload, url, paths)
            gaps = quiet
            await asyncio.sleep(QUIET_S)
            done.set()
            await asyncio.gather(*readers)
    return Gaps(quiet, busy, answered_s)


def upload(url: str, paths: Sequence[Path]) -> float:
    """Ask about all files at once; seconds until all had their first token."""
    with AudioFlamingo(url) as flamingo, ThreadPoolExecutor(max(1, len(paths))) as clients:
        began_s = time.monotonic()
        asked = [
            clients.submit(lambda one: flamingo.ask(one, "What do you hear?", max_tokens=1).text(), path)
            for path in paths
        ]
        for each in asked:
            each.result()
        return time.monotonic() - began_s
