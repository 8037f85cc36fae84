"""Puts loads on a server that perf_analyzer cannot: returning sessions, clients that cancel, slow readers, bursts.

`python -m perf.load --url HOST:PORT`; without `--url` it starts a server. All kinds of clients run at the same time.
Prints figures by kind, and the state that the server still holds afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise

from clients import AudioFlamingoError
from clients.aio import AsyncAnswer, AsyncAudioFlamingo
from perf import observe, profile, traffic
from perf.place import Place, endless_served
from perf.report import table

QUESTIONS = ("What do you hear?", "And what comes after it?", "Is it loud?")
CLIP_S = 3.0
SLOW_READ_S = 0.05  # pause of a slow reader between two responses
PAUSE_S = 0.5  # pause between two bursts, and between two turns of a session
SETTLE_S = 20.0
LEFT_BEHIND = ("af3_llm_running", "af3_llm_waiting", "af3_answers_live")


@dataclass(frozen=True)
class Outcome:
    """One request; times are seconds after it was sent. status: OK, CANCELLED (by us) or an error's status."""

    kind: str
    status: str
    first_s: float | None
    gaps_s: tuple[float, ...]
    ended_s: float
    tokens: int


@dataclass(frozen=True)
class Mix:
    """Number of clients of each kind, tokens per answer, and duration."""

    sessions: int = 2
    cancelling: int = 2
    slow: int = 2
    burst: int = 8  # requests per burst
    max_tokens: int = 32
    seconds: float = 20.0


async def run(url: str, mix: Mix, seed: int = 0) -> list[Outcome]:
    """Put the mix on the server at `url`; returns the outcome of every request."""
    outcomes: list[Outcome] = []
    end = time.monotonic() + mix.seconds
    clips = [traffic.clip(CLIP_S, number) for number in range(8)]
    async with AsyncAudioFlamingo(url) as flamingo:
        load = _Load(flamingo, mix.max_tokens, clips, random.Random(seed), outcomes)
        await asyncio.gather(
            *(_again(load.session, end) for _ in range(mix.sessions)),
            *(_again(load.cancelling, end) for _ in range(mix.cancelling)),
            *(_again(load.slow, end) for _ in range(mix.slow)),
            *([_again(lambda: load.burst(mix.burst), end)] if mix.burst else []),
        )
    return outcomes


async def _again(once: Callable[[], Awaitable[None]], end: float) -> None:
    while time.monotonic() < end:
        await once()


class _Load:
    """The kinds of clients."""

    def __init__(
        self,
        flamingo: AsyncAudioFlamingo,
        max_tokens: int,
        clips: Sequence[bytes],
        chance: random.Random,
        outcomes: list[Outcome],
    ):
        self._flamingo = flamingo
        self._max_tokens = max_tokens
        self._clips = clips
        self._random = chance
        self._outcomes = outcomes

    async def session(self) -> None:
        """Hold a conversation about one clip; every turn, after a pause, resends all earlier ones."""
        clip = self._random.choice(self._clips)
        messages: list[dict[str, object]] = []
        for number, question in enumerate(QUESTIONS):
            parts = ([{"type": "audio"}] if number == 0 else []) + [{"type": "text", "text": question}]
            messages.append({"role": "user", "content": parts})
            answer = self._flamingo.chat(messages, clip, max_tokens=self._max_tokens)
            if not await self._read("session", answer):
                return
            messages.append({"role": "assistant", "content": answer.text_so_far or "…"})
            await asyncio.sleep(PAUSE_S)

    async def cancelling(self) -> None:
        """Cancel in the middle of an answer, or before its first token."""
        await self._read(
            "cancelling", self._ask(), leave_after=self._random.randint(0, self._max_tokens // 2)
        )

    async def slow(self) -> None:
        """Read far slower than the server writes."""
        await self._read("slow", self._ask(), pause_s=SLOW_READ_S)

    async def burst(self, size: int) -> None:
        """Send many requests at once, then pause."""
        await asyncio.gather(*(self._read("burst", self._ask()) for _ in range(size)))
        await asyncio.sleep(PAUSE_S)

    def _ask(self) -> AsyncAnswer:
        clip = self._random.choice(self._clips)
        return self._flamingo.ask(clip, self._random.choice(QUESTIONS), max_tokens=self._max_tokens)

    async def _read(
        self, kind: str, answer: AsyncAnswer, leave_after: int | None = None, pause_s: float = 0.0
    ) -> bool:
        """Read to the end, or cancel after `leave_after` responses; returns True when the answer is complete."""
        sent = time.monotonic()
        times: list[float] = []
        status = "OK"
        try:
            if leave_after == 0:
                answer.cancel()
            async for _ in answer:
                times.append(time.monotonic() - sent)
                if len(times) == leave_after:
                    answer.cancel()
                await asyncio.sleep(pause_s)
        except AudioFlamingoError as error:
            status = error.status
        gaps = tuple(later - earlier for earlier, later in pairwise(times))
        first = times[0] if times else None
        self._outcomes.append(Outcome(kind, status, first, gaps, time.monotonic() - sent, answer.token_count))
        return status == "OK"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Render a Markdown table by kind. CANCELLED is an error only for clients that did not cancel."""
    rows = []
    for kind in sorted({outcome.kind for outcome in outcomes}):
        own = [outcome for outcome in outcomes if outcome.kind == kind]
        first = profile.spread([outcome.first_s for outcome in own if outcome.first_s is not None])
        gaps = profile.spread([gap for outcome in own for gap in outcome.gaps_s])
        rows.append([kind, str(len(own)), str(len(errors(own))), *_ms(first), *_ms(gaps)])
    head = ["clients", "requests", "errors", "first token, ms: p50", "p99", "gap, ms: p50", "p99"]
    return table(head, rows)


def errors(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the requests that did not end as their client intended."""
    wanted = {"cancelling": {"OK", "CANCELLED"}}
    return [outcome for outcome in outcomes if outcome.status not in wanted.get(outcome.kind, {"OK"})]


def left_behind(place: Place, timeout_s: float = SETTLE_S) -> dict[str, float]:
    """Return the state that the server still holds without clients; waits until it is empty, which is right."""
    assert place.metrics_url is not None
    end = time.monotonic() + timeout_s
    while True:
        text = observe.metrics(place.metrics_url)
        samples = (line.rpartition(" ") for line in text.splitlines())
        left = {name: float(value) for name, _, value in samples if name in LEFT_BEHIND and float(value)}
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.1)


def _ms(spread: profile.Spread) -> tuple[str, str]:
    return tuple("–" if value is None else f"{1000 * value:.1f}" for value in (spread.p50, spread.p99))  # type: ignore[return-value]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="gRPC address of a running server (default: start one)")
    parser.add_argument("--metrics-url", help="metrics address of that server, to check what it still holds")
    parser.add_argument("--target", default="cpu", help="of the server to start (default: %(default)s)")
    for name, meaning in (
        ("sessions", "conversations at a time"),
        ("cancelling", "clients that cancel in the middle"),
        ("slow", "clients that read slowly"),
        ("burst", "requests per burst"),
        ("max_tokens", "of an answer"),
    ):
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(
            flag, type=int, default=getattr(Mix(), name), help=f"{meaning} (default: %(default)s)"
        )
    parser.add_argument("--seconds", type=float, default=Mix().seconds, help="default: %(default)s")
    arguments = parser.parse_args()
    mix = Mix(**{name: getattr(arguments, name) for name in vars(Mix())})
    with _place(arguments) as place:
        outcomes = asyncio.run(run(place.url, mix))
        print(summary(outcomes))
        left = left_behind(place) if place.metrics_url else {}
        print(f"left behind: {left or 'nothing'}")
    return 1 if errors(outcomes) or left else 0


def _place(arguments: argparse.Namespace) -> AbstractContextManager[Place]:
    if arguments.url:
        return nullcontext(Place(arguments.url, arguments.metrics_url))
    return endless_served(arguments.target)


if __name__ == "__main__":
    sys.exit(main())
