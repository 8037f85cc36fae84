"""Measures Realtime's latency from the end of speech, and from the end of the turn, to the first audio of the answer.

    .venv/bin/python -m perf.realtime_latency [--url ws://127.0.0.1:8000] [--turns 30]

The question is sent in real time, like a microphone's. The end of speech is the last loud sample sent; the end of
the turn is `speech_stopped`, after the pause that the session configures. `commit` needs no pause.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from websockets.asyncio.client import ClientConnection, connect

QUESTION = Path(__file__).parents[1] / "checkpoints" / "samples" / "question.wav"
BLOCK_S = 0.02
LOUD = 300  # of 32768
SILENCE_MS = 200
TARGET_MS = 400


class Caller:
    """A session that repeats one question."""

    def __init__(self, connection: ClientConnection, pcm: np.ndarray, hz: int):
        self._connection = connection
        self._pcm = pcm
        self._hz = hz
        self._ended_s = 0.0
        self._speech_ends = len(pcm) - int((np.abs(pcm[::-1].astype(int)) > LOUD).argmax())

    async def send(self, kind: str, **fields: Any) -> None:
        await self._connection.send(json.dumps({"type": kind, **fields}))

    async def until(self, *kinds: str) -> dict[str, Any]:
        while True:
            event: dict[str, Any] = json.loads(await self._connection.recv())
            if event["type"] in kinds:
                return event
            if event["type"] == "error":
                raise SystemExit(event["error"]["message"])

    async def by_pause(self) -> tuple[float, float]:
        """Ask and pause; returns seconds from the end of speech, and of the turn, to the first audio."""
        speaking = asyncio.ensure_future(self._speak())
        await self.until("input_audio_buffer.speech_stopped")
        stopped_s = time.perf_counter()
        await self.until("response.output_audio.delta")
        first_s = time.perf_counter()
        await self.until("response.done")
        speaking.cancel()
        return first_s - self._ended_s, first_s - stopped_s

    async def by_commit(self) -> float:
        """Ask and commit; returns seconds from `commit` to the first audio."""
        await self._append(self._pcm.tobytes())
        began_s = time.perf_counter()
        await self.send("input_audio_buffer.commit")
        await self.send("response.create")
        await self.until("response.output_audio.delta")
        first_s = time.perf_counter()
        await self.until("response.done")
        return first_s - began_s

    async def _speak(self) -> None:
        """Send the question in real time, then silence until cancelled."""
        block = round(BLOCK_S * self._hz)
        began_s = time.perf_counter()
        place = 0
        while True:
            part = self._pcm[place : place + block]
            if place <= self._speech_ends < place + block:
                self._ended_s = time.perf_counter()
            await self._append(np.pad(part, (0, block - len(part))).tobytes())
            place += block
            await asyncio.sleep(max(0.0, began_s + place / self._hz - time.perf_counter()))

    async def _append(self, data: bytes) -> None:
        await self.send("input_audio_buffer.append", audio=base64.b64encode(data).decode())


async def measured(url: str, turns: int) -> dict[str, list[float]]:
    """Measure milliseconds by kind; every turn is the first question of a new session."""
    found: dict[str, list[float]] = {"speech": [], "turn": [], "commit": []}
    pcm, hz = soundfile.read(QUESTION, dtype="int16")
    fmt = {"type": "audio/pcm", "rate": hz}
    for turn in range(turns + 1):
        for kind in ("pause", "commit"):
            detection = {"type": "server_vad", "silence_duration_ms": SILENCE_MS} if kind == "pause" else None
            async with connect(
                f"{url}/v1/realtime?model=audio_flamingo_speech", compression=None
            ) as connection:
                caller = Caller(connection, _changed(pcm), hz)
                audio = {"input": {"format": fmt, "turn_detection": detection}}
                await caller.send("session.update", session={"type": "realtime", "audio": audio})
                await caller.until("session.updated")
                if kind == "commit":
                    times = {"commit": await caller.by_commit()}
                else:
                    speech_s, turn_s = await caller.by_pause()
                    times = {"speech": speech_s, "turn": turn_s}
            if turn:  # the first turn starts the process that detects speech
                for name, seconds in times.items():
                    found[name].append(1000 * seconds)
    return found


def _changed(pcm: np.ndarray) -> np.ndarray:
    """Add faint random noise, so that the clip is new and no cache answers."""
    noise = np.random.default_rng(time.time_ns()).integers(-2, 3, len(pcm))
    return np.clip(pcm.astype(int) + noise, -32768, 32767).astype("<i2")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="ws://127.0.0.1:8000")
    parser.add_argument("--turns", type=int, default=30)
    arguments = parser.parse_args()
    found = asyncio.run(measured(arguments.url, arguments.turns))
    names = {
        "speech": f"end of speech (pause of {SILENCE_MS} ms)",
        "turn": "end of the turn (speech_stopped)",
        "commit": "commit",
    }
    print(f"first sound after, in ms; {arguments.turns} turns    p50   p90   worst")
    for kind, times in found.items():
        p50, p90 = np.percentile(times, [50, 90])
        print(f"{names[kind]:40} {p50:8.0f} {p90:5.0f} {max(times):7.0f}")
    return 0 if np.median(found["speech"]) <= TARGET_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
