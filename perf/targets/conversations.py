"""Measures whole requests: against Transformers, and about a clip that is in the embedding cache."""

from __future__ import annotations

import statistics
from pathlib import Path

from af3.manifest import Manifest
from perf import analyzer, report, sweep
from perf.analyzer import Load
from perf.place import endless_served
from perf.targets.target_finding import Finding

ROUNDS = 3
CLIP_S = 30.0
WANTED = {
    "requests/s, 8 clients : `generate()` one by one": 6.0,
    "first token, `generate()` alone : 8 clients": 4.0,
}


def end_to_end() -> list[Finding]:
    """Compare with Transformers on clips of 5 s and answers of 32 tokens."""
    with endless_served("cpu") as place:
        checkpoint = Manifest.read(Path("engines/cpu")).checkpoint.name
        rounds = list(sweep.compared(place, checkpoint, ROUNDS))
    findings = []
    for what, values in report.ratios(rounds):
        wanted = WANTED.get(what)
        median = statistics.median(values)
        findings.append(
            Finding(
                what,
                "" if wanted is None else f"≥ {wanted:g}×",
                f"{median:.1f}× ({min(values):.1f}–{max(values):.1f})",
                None if wanted is None else median >= wanted,
            )
        )
    return findings


def heard_before() -> list[Finding]:
    """Measure the first token for a new 30 s clip and for a cached one, with one client."""
    with endless_served("cpu") as place:
        miss = analyzer.run(Load("new", 10, (CLIP_S,), 8, 1), place.url).first_token_s
        hit = analyzer.run(Load("again", 11, (CLIP_S,), 8, 1, distinct=1), place.url).first_token_s
    assert miss.p50 and hit.p50
    return [
        Finding(
            "first token about a 30 s clip heard before, p50",
            "skips the encoder",
            f"{1000 * hit.p50:.0f} ms, new clip {1000 * miss.p50:.0f} ms: {miss.p50 / hit.p50:.1f}×",
            hit.p50 < miss.p50,
        )
    ]
