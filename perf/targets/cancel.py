"""How soon the LLM stops once a client cancels its answer, alone and beside other answers."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import suppress

from clients.aio import AsyncAudioFlamingo
from clients.errors import AudioFlamingoError
from perf import observe
from perf.place import Place, endless_served
from perf.targets.target_finding import Finding

OTHERS = (0, 7)
TRIES = 20
WANTED_S = 0.1
LONGEST = 1024  # tokens: no answer ends by itself
POLL_S = 0.002


def cancel() -> list[Finding]:
    """From the client's cancel to the figure of running answers that no longer counts it; the reading included."""
    findings = []
    with endless_served("cpu") as place:
        for others in OTHERS:
            waits = asyncio.run(_beside(place, others))
            median = statistics.median(waits)
            findings.append(
                Finding(
                    f"a cancelled answer leaves the LLM, beside {others} answers",
                    f"≤ {1000 * WANTED_S:.0f} ms",
                    f"p50 {1000 * median:.0f} ms, worst {1000 * max(waits):.0f} ms, {TRIES} times",
                    median <= WANTED_S,
                )
            )
    return findings


async def _beside(place: Place, others: int) -> list[float]:
    async with AsyncAudioFlamingo(place.url) as flamingo:
        return [await _wait(place, flamingo, others) for _ in range(TRIES)]


async def _wait(place: Place, flamingo: AsyncAudioFlamingo, others: int) -> float:
    """Begin all answers, cancel one; the seconds until the LLM runs one fewer. No other ends meanwhile."""
    answers = [flamingo.ask([], "Go on.", max_tokens=LONGEST) for _ in range(1 + others)]
    begun = [aiter(answer) for answer in answers]  # kept: one that is dropped may cancel its answer
    await asyncio.gather(*(anext(deltas) for deltas in begun))
    while await _running(place) < 1 + others:
        await asyncio.sleep(POLL_S)
    began_s = time.perf_counter()
    answers[0].cancel()
    while await _running(place) > others:
        await asyncio.sleep(POLL_S)
    found_s = time.perf_counter() - began_s
    for answer, deltas in zip(answers, begun, strict=True):
        answer.cancel()
        with suppress(AudioFlamingoError):
            async for _ in deltas:
                pass
    while await _running(place):
        await asyncio.sleep(POLL_S)
    return found_s


async def _running(place: Place) -> float:
    """Read in a thread, so that the loop goes on."""
    assert place.metrics_url is not None
    return await asyncio.to_thread(observe.total, place.metrics_url, "af3_llm_running")
