"""How soon a phrase is heard after its text has stopped: an LLM that stops in the middle, the real steps behind it."""

from __future__ import annotations

import asyncio
import time

from af3 import contract
from clients.aio import AsyncAudioFlamingo
from perf.targets.other_llm import STEPS, door, server
from perf.targets.stall_plan import PARTS, STALL_S, TALKER_TOKENS
from perf.targets.target_finding import Finding

TALKERS = (0, 40)
ANSWERS = 10
WANTED_S = 0.3
SPEECH_STEPS = (*STEPS, "audio_flamingo_speech", "tts")


def stalls() -> list[Finding]:
    """From the last response before a stall to the first speech after it, alone and beside streams of text."""
    findings = []
    with server("stalling_source.py", SPEECH_STEPS) as triton, door(triton) as opened:
        for talkers in TALKERS:
            waits = asyncio.run(_beside(opened.url, talkers))
            waits.sort()
            findings.append(
                Finding(
                    f"speech after the text stopped, {len(waits)} stalls beside {talkers} streams",
                    f"≤ {WANTED_S} s",
                    f"p50 {1000 * waits[len(waits) // 2]:.0f} ms, worst {1000 * waits[-1]:.0f} ms",
                    len(waits) == ANSWERS * len(PARTS) and waits[-1] <= WANTED_S,
                )
            )
    return findings


async def _beside(url: str, talkers: int) -> list[float]:
    async with (
        AsyncAudioFlamingo(url) as texts,
        AsyncAudioFlamingo(url, contract.AUDIO_FLAMINGO_SPEECH.name) as voices,
    ):
        done = asyncio.Event()

        async def talk() -> None:
            while not done.is_set():
                async for _ in texts.ask([], "Go on.", max_tokens=TALKER_TOKENS):
                    if done.is_set():
                        break

        others = [asyncio.create_task(talk()) for _ in range(talkers)]
        waits = [wait for _ in range(ANSWERS) for wait in await _waits(voices)]
        done.set()
        await asyncio.gather(*others)
    return waits


async def _waits(voices: AsyncAudioFlamingo) -> list[float]:
    """Of one answer: for each stall the seconds from its last text to the first speech."""
    arrived: list[tuple[float, bool]] = []  # when, and whether it is speech
    async for delta in voices.ask([], "Go on.", max_tokens=64):
        arrived.append((time.monotonic(), delta.speech is not None))
    waits = []
    for place, (at_s, is_speech) in enumerate(arrived):
        if is_speech or place + 1 == len(arrived):
            continue
        later = [when for when, spoken in arrived[place + 1 :] if not spoken]
        if later and later[0] - at_s < STALL_S / 2:
            continue  # the text went on
        spoken = [when for when, speech in arrived[place + 1 :] if speech]
        if spoken:
            waits.append(spoken[0] - at_s)
    return waits
