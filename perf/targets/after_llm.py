"""Measures the path after the LLM with an LLM that costs nothing and 16 streams, on Triton itself.

Also measures Triton's overhead: one client's time to the first response less the time of the steps.
"""

from __future__ import annotations

import os

from perf import analyzer, observe
from perf.analyzer import Load
from perf.place import Place
from perf.targets.other_llm import STEPS, door, server
from perf.targets.target_finding import Finding

STREAMS, TOKENS, REQUESTS = 16, 500, 64
ROUNDS = 3
CLIP_S = 0.5
LEAST_TOKENS_PER_S = 6000.0
EVERY_TOKEN_ALONE = 10**9  # responses/s: so high that each token is a response of its own
SOURCE = "token_source.py"


def tokens() -> list[Finding]:
    """Measure tokens/s (median round) and processor time per token, also with one response per token."""
    with server(SOURCE) as triton, door(triton) as opened:
        carried = _findings("on Triton", triton, least=LEAST_TOKENS_PER_S)
        carried += _findings("through the door", opened)
    with server(SOURCE, most_responses_per_s=EVERY_TOKEN_ALONE) as triton:
        return carried + _findings("on Triton, every token a response of its own", triton)


def _findings(name: str, place: Place, least: float | None = None) -> list[Finding]:
    load = Load("after the llm", REQUESTS, (CLIP_S,), TOKENS, STREAMS)
    rounds = sorted((_round(load, place) for _ in range(ROUNDS)), key=lambda found: found[0])
    rate, errors, spent = rounds[len(rounds) // 2]
    return [
        Finding(
            f"tokens/s after the LLM, {STREAMS} streams, {name}",
            "" if least is None else f"≥ {least:g}",
            f"{rate:.0f} ({rounds[0][0]:.0f}–{rounds[-1][0]:.0f}), {errors} out of order or lost;"
            f" {1e6 * spent:.0f} µs of processor a token, client included",
            None if least is None else rate >= least and not errors,
        )
    ]


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


def _round(load: Load, place: Place) -> tuple[float, int, float]:
    """Run one round; returns tokens/s, errors, and processor seconds per token."""
    before, client = observe.read(place), os.times()
    found = analyzer.run(load, place.url)
    after = os.times()
    stages = observe.between(before, observe.read(place)).values()
    spent = sum(stage.processor_s or 0.0 for stage in stages)
    spent += after.children_user + after.children_system - client.children_user - client.children_system
    return found.tokens_per_s, found.errors, spent / (load.requests * load.max_tokens)
