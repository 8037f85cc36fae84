"""The path after the LLM alone: an LLM that costs nothing, 16 streams, on Triton itself.

And what Triton adds to a request: one client, the first response's time without the steps' own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perf import analyzer, observe
from perf.analyzer import Load
from perf.place import Place
from perf.targets.finding import Finding
from serving.door.door import Behind, Door
from serving.ports import Ports, claim
from serving.ready import answers
from serving.server import MODEL_REPOSITORY, Server

STREAMS, TOKENS, REQUESTS = 16, 500, 64
ROUNDS = 3
CLIP_S = 0.5
HOST = "127.0.0.1"
STEPS = ("audio_flamingo", "preprocess", "audio_encoder", "postprocess")


def tokens() -> list[Finding]:
    """Tokens a second, the median round, and the processor time that each took."""
    findings = []
    with _server() as triton, _door(triton) as door:
        for name, place in (("on Triton", triton), ("through the door", door)):
            load = Load("after the llm", REQUESTS, (CLIP_S,), TOKENS, STREAMS)
            rounds = sorted((_round(load, place) for _ in range(ROUNDS)), key=lambda found: found[0])
            rate, errors, spent = rounds[len(rounds) // 2]
            findings.append(
                Finding(
                    f"tokens/s after the LLM, {STREAMS} streams, {name}",
                    "≥ 6000" if place is triton else "",
                    f"{rate:.0f} ({rounds[0][0]:.0f}–{rounds[-1][0]:.0f}), {errors} out of order or lost;"
                    f" {1e6 * spent:.0f} µs of processor a token, client included",
                    rate >= 6000 and not errors if place is triton else None,
                )
            )
    return findings


def overhead() -> list[Finding]:
    """Milliseconds to the first response without preprocess, encoder and postprocess, one client."""
    findings = []
    with _server() as triton, _door(triton) as door:
        for name, place in (("Triton", triton), ("Triton and the door", door)):
            before = observe.read(place)
            found = analyzer.run(Load("one client", 100, (CLIP_S,), 1, 1), place.url)
            stages = observe.between(before, observe.read(place))
            steps_ms = sum(stages[step].compute_ms for step in STEPS[1:])
            first_ms = 1000 * (found.first_token_s.mean or 0.0)  # Triton knows only means of its steps
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
    """Tokens/s, errors, processor seconds a token."""
    before, client = observe.read(place), os.times()
    found = analyzer.run(load, place.url)
    after = os.times()
    stages = observe.between(before, observe.read(place)).values()
    spent = sum(stage.processor_s or 0.0 for stage in stages)
    spent += after.children_user + after.children_system - client.children_user - client.children_system
    return found.tokens_per_s, found.errors, spent / (load.requests * load.max_tokens)


@contextmanager
def _server() -> Iterator[Place]:
    """Triton with the real steps, but for `llm`, which is `token_source.py`."""
    with tempfile.TemporaryDirectory(prefix="af3-perf-") as name:
        models = Path(name) / "models"
        for step in STEPS:
            (models / step).mkdir(parents=True)
            for entry in (MODEL_REPOSITORY / step).iterdir():
                (models / step / entry.name).symlink_to(entry)
        (models / "llm" / "1").mkdir(parents=True)
        (models / "llm" / "configs").symlink_to(MODEL_REPOSITORY / "llm" / "configs")
        (models / "llm" / "1" / "model.py").symlink_to(Path(__file__).with_name("token_source.py"))
        with Server("cpu", Path.cwd(), Path(name) / "log", Ports(0, 0, 0), models=models) as server:
            server.wait_until(lambda: answers(server.url), 60)
            yield Place(server.url, f"http://{HOST}:{server.ports.metrics}/metrics", server.pid)


@contextmanager
def _door(triton: Place) -> Iterator[Place]:
    """The door before it, in this process: its processor time is not seen, that of Triton is."""
    grpc = int(triton.url.rpartition(":")[2])
    metrics = int((triton.metrics_url or "").rpartition(":")[2].partition("/")[0])
    with Door(Behind(Ports(grpc, 0, metrics), ""), HOST, claim(Ports(0, 0, 0), HOST)) as door:
        door.admission.ready = True
        yield Place(door.url, triton.metrics_url, triton.pid)
