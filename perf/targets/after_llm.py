"""Measures the path after the LLM with an LLM that costs nothing and 64 streams, through the door.

Also measures Triton's overhead: one client's time to the first response less the time of the steps.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from perf import analyzer, observe
from perf.analyzer import Load
from perf.place import Place
from perf.targets.other_llm import STEPS, door, server
from perf.targets.target_finding import Finding

STREAMS, TOKENS, REQUESTS = 64, 300, 128
ROUNDS = 3
CLIP_S = 0.5
LEAST_TOKENS_PER_S = 8000.0
MOST_US = 60.0  # of processor a token in any process: what limits a machine with many cores
NO_LIMIT = 10**9  # responses/s: so high that each token is a response of its own
SOURCE = "token_source.py"
CLIENT = "client"
TOKEN_BY_TOKEN = {"most_responses_per_s": NO_LIMIT, "least_gap_ms": 0}
OVERRIDES: dict[str, Mapping[str, Mapping[str, int]]] = {
    "as configured": {},
    "one token per response of the LLM, as TensorRT-LLM sends them": {
        "llm": TOKEN_BY_TOKEN,
        "postprocess": {"most_responses_per_s": 1000},
    },
    "one token per response to the client": {
        "llm": TOKEN_BY_TOKEN,
        "postprocess": {"most_responses_per_s": NO_LIMIT},
    },
}


@dataclass(frozen=True)
class Round:
    """Result of one load. us: processor time per token, by process."""

    tokens_per_s: float
    errors: int
    us: Mapping[str, float]


def tokens() -> list[Finding]:
    """Measure tokens/s (median round) and processor time per token; the target is of the served configuration."""
    findings = []
    for name, overrides in OVERRIDES.items():
        with server(SOURCE, overrides=overrides) as triton, door(triton) as opened:
            findings += _findings(name, triton, opened, wanted=not overrides)
    return findings


def _findings(name: str, triton: Place, opened: Place, wanted: bool) -> list[Finding]:
    rounds = sorted((measured(triton, opened) for _ in range(ROUNDS)), key=lambda found: found.tokens_per_s)
    median = rounds[len(rounds) // 2]
    errors = sum(found.errors for found in rounds)
    most = max(us for process, us in median.us.items() if process != CLIENT)
    each = ", ".join(f"{process} {us:.0f}" for process, us in median.us.items())
    return [
        Finding(
            f"tokens/s after the LLM, {STREAMS} streams through the door, {name}",
            f"≥ {LEAST_TOKENS_PER_S:g}" if wanted else "",
            f"{median.tokens_per_s:.0f} ({rounds[0].tokens_per_s:.0f}–{rounds[-1].tokens_per_s:.0f}),"
            f" {errors} out of order or lost",
            median.tokens_per_s >= LEAST_TOKENS_PER_S and not errors if wanted else None,
        ),
        Finding(
            f"µs of processor a token, {name}",
            f"≤ {MOST_US:g} in any process" if wanted else "",
            f"{sum(median.us.values()):.0f}: {each}",
            most <= MOST_US if wanted else None,
        ),
    ]


def measured(triton: Place, opened: Place, requests: int = REQUESTS, tokens: int = TOKENS) -> Round:
    """Put one load on the door and measure it."""
    load = Load("after the llm", requests, (CLIP_S,), tokens, STREAMS)
    before, client = _processor_s(triton, opened), os.times()
    found = analyzer.run(load, opened.url)
    spent, after = _processor_s(triton, opened), os.times()
    us = {name: 1e6 * (spent[name] - before.get(name, 0.0)) / (requests * tokens) for name in spent}
    children_s = after.children_user + after.children_system - client.children_user - client.children_system
    us[CLIENT] = 1e6 * children_s / (requests * tokens)
    return Round(found.tokens_per_s, found.errors, {name: value for name, value in us.items() if value >= 1})


def _processor_s(triton: Place, opened: Place) -> dict[str, float]:
    """Processor time so far, by process."""
    assert triton.pid is not None and opened.pid is not None
    spent = observe.processor_seconds(triton.pid)
    spent[observe.TRITON] = spent.pop(observe.DOOR)  # how `observe` calls the process at the root
    spent[observe.DOOR] = observe.processor_seconds(opened.pid)[observe.DOOR]
    return spent


def overhead() -> list[Finding]:
    """Measure ms to the first response less preprocess, encoder and postprocess, with one client."""
    findings = []
    with server(SOURCE) as triton, door(triton) as opened:
        for name, place in (("Triton", triton), ("Triton and the door", opened)):
            before = observe.read(place)
            found = analyzer.run(Load("one client", 100, (CLIP_S,), 1, 1), place.url)
            stages = observe.between(before, observe.read(place))
            steps_ms = sum(stages[step].compute_ms for step in STEPS[1:])
            first_ms = 1000 * (found.first_token_s.mean or 0.0)  # Triton reports only means of its steps
            findings.append(
                Finding(
                    f"{name} to the first response beyond the steps, one client, mean",
                    "≤ 5 ms",
                    f"{first_ms - steps_ms:.1f} ms ({first_ms:.1f} less {steps_ms:.1f} of the steps)",
                    first_ms - steps_ms <= 5,
                )
            )
    return findings
