"""The loads of a sweep by size: `quick` for a first look, `full` for the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from af3 import contract
from perf.analyzer import Load

Size = Literal["quick", "full"]
CLIP_S = 5.0
MAX_TOKENS = 32
MIXED_S = (2.0, 5.0, 2.0, 10.0, 2.0, 5.0, 30.0, 2.0)


@dataclass(frozen=True)
class Plan:
    """groups: varied quantity → its loads. load_factors: arrival rates as fractions of the highest requests/s that the
    concurrency sweep reached.
    """

    groups: dict[str, tuple[Load, ...]]
    load_factors: tuple[float, ...]
    requests_per_rate: int
    baseline_rounds: int


def plan(target: str, size: Size) -> Plan:
    """Choose the loads; a GPU gets more concurrency and more requests than a CPU."""
    gpu = target != "cpu"
    if size == "quick":
        return _quick(16 if gpu else 4)
    return _full((1, 2, 4, 8, 16, 32, 64) if gpu else (1, 2, 4, 8, 16), times=8 if gpu else 1)


def rate_loads(plan: Plan, capacity: float) -> tuple[Load, ...]:
    """Poisson arrivals at fractions of `capacity` (requests/s)."""
    return tuple(
        Load(
            f"{factor:.0%} of capacity",
            plan.requests_per_rate,
            (CLIP_S,),
            MAX_TOKENS,
            rate=max(0.2, factor * capacity),
        )
        for factor in plan.load_factors
    )


def _quick(most: int) -> Plan:
    return Plan(
        {
            "concurrency": (_at(1, 10), _at(most, 10 * most)),
            "audio length": tuple(_long(seconds, 4) for seconds in (2.0, 30.0)),
            "output length": (_words(8, 1, 6), _words(128, 1, 4)),
            "speech": (_spoken(1, 4),),
            "mixed": (_mixed(most, 16),),
            "same clip again": (_again(1, 10),),
        },
        load_factors=(0.5,),
        requests_per_rate=20,
        baseline_rounds=2,
    )


def _full(concurrencies: tuple[int, ...], times: int) -> Plan:
    return Plan(
        {
            "concurrency": tuple(_at(number, max(32, 8 * number)) for number in concurrencies),
            "audio length": tuple(
                _long(seconds, count * times)
                for seconds, count in ((2.0, 30), (10.0, 20), (30.0, 16), (120.0, 8), (600.0, 4))
            ),
            "output length": tuple(
                _words(tokens, streams, 4 * streams * times)
                for streams in (1, 8)
                for tokens in (8, 32, 128, 512)
            ),
            "speech": (_written(1, 12), _spoken(1, 12), _written(4, 16), _spoken(4, 16)),
            "mixed": (_mixed(4, 48 * times), _mixed(8, 64 * times)),
            "same clip again": (_again(1, 32), _again(8, 64)),
        },
        load_factors=(0.25, 0.5, 0.8, 0.95),
        requests_per_rate=80 * times,
        baseline_rounds=3,
    )


def _at(concurrency: int, requests: int) -> Load:
    return Load(f"{concurrency} at once", requests, (CLIP_S,), MAX_TOKENS, concurrency)


def _long(seconds: float, requests: int) -> Load:
    return Load(f"{seconds:g} s", requests, (seconds,), MAX_TOKENS, 1)


def _words(tokens: int, concurrency: int, requests: int) -> Load:
    return Load(f"{tokens} tokens, {concurrency} at once", requests, (2.0,), tokens, concurrency)


def _spoken(concurrency: int, requests: int) -> Load:
    name = f"with speech, {concurrency} at once"
    model = contract.AUDIO_FLAMINGO_SPEECH.name
    return Load(name, requests, (2.0,), MAX_TOKENS, concurrency, model=model)


def _written(concurrency: int, requests: int) -> Load:
    return Load(f"without speech, {concurrency} at once", requests, (2.0,), MAX_TOKENS, concurrency)


def _mixed(concurrency: int, requests: int) -> Load:
    return Load(f"2 to 30 s, {concurrency} at once", requests, MIXED_S, MAX_TOKENS, concurrency)


def _again(concurrency: int, requests: int) -> Load:
    return Load(f"one clip, {concurrency} at once", requests, (CLIP_S,), MAX_TOKENS, concurrency, distinct=1)
