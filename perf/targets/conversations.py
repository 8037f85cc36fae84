"""Measures whole requests: against Transformers, and about a clip that is in the caches."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from af3.manifest import Manifest
from clients.client import Answer, AudioFlamingo
from clients.request import Message
from perf import observe, report, sweep, traffic
from perf.place import Place, endless_served
from perf.targets.target_finding import Finding

ROUNDS = 3
CLIP_S = 30.0
AUDIO_TOKENS = 740  # fewer than such a clip has
QUESTIONS, TOKENS = 9, 8
FIRST_CLIP = 50_000  # of `traffic`: no other load has it
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
    """Measure the first token of a new 30 s clip, of a second question about it and of the next turn, one client."""
    found: dict[str, list[float]] = {"new": [], "second question": [], "next turn": []}
    with endless_served("cpu") as place, AudioFlamingo(place.url) as flamingo:
        before = _cached(place)
        for number in range(QUESTIONS + 1):  # the first warms up
            clip = traffic.clip(CLIP_S, FIRST_CLIP + number)
            first, second = f"What do you hear? ({number})", f"How long is it? ({number})"
            new_s, text = _first_s(flamingo.ask(clip, first, max_tokens=TOKENS))
            again_s, _ = _first_s(flamingo.ask(clip, second, max_tokens=TOKENS))
            turns: list[Message] = [
                {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": first}]},
                {"role": "assistant", "content": text},
                {"role": "user", "content": second},
            ]
            turn_s, _ = _first_s(flamingo.chat(turns, clip, max_tokens=TOKENS))
            for times, seconds in zip(found.values(), (new_s, again_s, turn_s), strict=True):
                times.append(seconds)
        cached = _cached(place) - before
    new_ms = 1000 * statistics.median(found["new"][1:])
    findings = []
    for name in ("second question", "next turn"):
        times = found[name][1:]
        ratios = [new / again for new, again in zip(found["new"][1:], times, strict=True)]
        findings.append(
            Finding(
                f"first token, new 30 s clip : {name}",
                "skips encoder and prefill",
                f"{statistics.median(ratios):.1f}× ({min(ratios):.1f}–{max(ratios):.1f});"
                f" {1000 * statistics.median(times):.0f} ms, new clip {new_ms:.0f} ms",
                min(ratios) > 1 and cached >= 2 * len(found["new"]) * AUDIO_TOKENS,
            )
        )
    return findings


def _first_s(answer: Answer) -> tuple[float, str]:
    """Seconds to the first token, and the whole answer."""
    started = time.perf_counter()
    deltas = iter(answer)
    text = next(deltas).text
    first_s = time.perf_counter() - started
    return first_s, text + "".join(delta.text for delta in deltas)


def _cached(place: Place) -> float:
    """Prompt tokens found in the prefix cache so far."""
    assert place.metrics_url is not None
    return observe.total(place.metrics_url, "af3_llm_cached_tokens")
