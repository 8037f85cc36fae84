"""Measures the path after the LLM with an LLM that costs nothing and 16 streams, on Triton itself.

Also measures Triton's overhead: one client's time to the first response less the time of the steps.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perf import analyzer, observe
from perf.analyzer import Load
from perf.place import Place
from perf.targets.target_finding import Finding
from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress
from serving.host.probe import answers
from serving.host.triton import MODEL_REPOSITORY, Server

STREAMS, TOKENS, REQUESTS = 16, 500, 64
ROUNDS = 3
CLIP_S = 0.5
LEAST_TOKENS_PER_S = 6000.0
EVERY_TOKEN_ALONE = 10**9  # responses/s: so high that each token is a response of its own
HOST = "127.0.0.1"
STEPS = ("audio_flamingo", "preprocess", "audio_encoder", "postprocess")


def tokens() -> list[Finding]:
    """Measure tokens/s (median round) and processor time per token, also with one response per token."""
    with _server() as triton, _door(triton) as door:
        carried = _findings("on Triton", triton, least=LEAST_TOKENS_PER_S)
        carried += _findings("through the door", door)
    with _server(most_responses_per_s=EVERY_TOKEN_ALONE) as triton:
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
    with _server() as triton, _door(triton) as door:
        for name, place in (("Triton", triton), ("Triton and the door", door)):
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


@contextmanager
def _server(most_responses_per_s: int | None = None) -> Iterator[Place]:
    """Serve Triton with the real steps, except that `llm` is `token_source.py`.

    most_responses_per_s: overrides the setting of postprocess.
    """
    with tempfile.TemporaryDirectory(prefix="af3-perf-") as name:
        models = Path(name) / "models"
        for step in STEPS:
            (models / step).mkdir(parents=True)
            for entry in (MODEL_REPOSITORY / step).iterdir():
                (models / step / entry.name).symlink_to(entry)
        if most_responses_per_s is not None:
            _override(models / "postprocess", "most_responses_per_s", most_responses_per_s)
        (models / "llm" / "1").mkdir(parents=True)
        (models / "llm" / "configs").symlink_to(MODEL_REPOSITORY / "llm" / "configs")
        (models / "llm" / "1" / "model.py").symlink_to(Path(__file__).with_name("token_source.py"))
        with Server("cpu", Path.cwd(), Path(name) / "log", Ports(0, 0, 0), models=models) as server:
            server.wait_until(lambda: answers(server.url), 60)
            yield Place(server.url, f"http://{HOST}:{server.ports.metrics}/metrics", server.pid)


def _override(step: Path, key: str, value: int) -> None:
    """Replace the link to the CPU config by a copy with another value."""
    config = (step / "configs" / "cpu.pbtxt").read_text()
    changed = re.sub(rf'(key: "{key}" value: {{ string_value: ")[^"]*', rf"\g<1>{value}", config)
    (step / "configs").unlink()
    (step / "configs").mkdir()
    (step / "configs" / "cpu.pbtxt").write_text(changed)


@contextmanager
def _door(triton: Place) -> Iterator[Place]:
    """Run the door before it in this process; processor time is measured for Triton only."""
    grpc = int(triton.url.rpartition(":")[2])
    metrics = int((triton.metrics_url or "").rpartition(":")[2].partition("/")[0])
    with Door(TritonAddress(Ports(grpc, 0, metrics), ""), HOST, claim(Ports(0, 0, 0), HOST)) as door:
        door.admission.ready = True
        yield Place(door.url, triton.metrics_url, triton.pid)
