"""`make perf`: starts a server, runs every load of a plan with perf_analyzer, stores raw figures, writes a report.

The baseline (Transformers on the same checkpoint and machine) alternates with the load it is compared with, so that
a busy moment hits both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from af3.manifest import Manifest
from perf import analyzer, baseline, observe, report
from perf.analyzer import Load
from perf.place import Place, endless_served
from perf.plan import CLIP_S, MAX_TOKENS, Plan, plan, rate_loads

RESULTS = Path("perf/results")
CLIENTS = 8  # concurrent, where the server is compared with Transformers


def main() -> int:
    arguments = _parse()
    engines = Path("engines") / arguments.target
    manifest = Manifest.read(engines)
    wanted = plan(arguments.target, "quick" if arguments.quick else "full")
    raw: dict[str, Any] = {"machine": _machine(arguments.target, manifest), "started": time.time()}
    with _server(arguments) as place:
        raw["ready_s"] = place.ready_s
        raw["memory_at_rest_bytes"] = _memory(place)
        raw["cells"] = list(_cells(wanted, place))
        raw["memory_after_bytes"] = _memory(place)
        if not arguments.no_baseline:
            checkpoint = arguments.checkpoint or manifest.checkpoint.name
            raw["compared"] = list(compared(place, checkpoint, wanted.baseline_rounds))
    raw["duration_s"] = time.time() - raw["started"]
    folder = arguments.out / time.strftime(f"{arguments.target}-%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    (folder / "raw.json").write_text(json.dumps(raw, indent=1) + "\n")
    report.write(raw, folder)
    print(f"report: {folder}/report.md, {folder}/report.html; raw figures: {folder}/raw.json")
    return 1 if any(cell["error"] for cell in raw["cells"]) else 0


def _server(arguments: argparse.Namespace) -> AbstractContextManager[Place]:
    if arguments.url:
        return nullcontext(Place(arguments.url, arguments.metrics_url))
    return endless_served(arguments.target)


def _cells(wanted: Plan, place: Place) -> Iterator[dict[str, Any]]:
    best = 0.0
    for group, loads in wanted.groups.items():
        for load in loads:
            cell = measure(group, load, place)
            if group == "concurrency" and cell["figures"]:
                best = max(best, cell["figures"]["requests_per_s"])
            yield cell
        if group == "concurrency" and best:
            for load in rate_loads(wanted, best):
                yield measure("arrival rate", load, place)


def measure(group: str, load: Load, place: Place) -> dict[str, Any]:
    """Measure one cell: load, figures, stages, memory after it, and the machine's load average before it."""
    busy = os.getloadavg()[0]
    before, client_before = observe.read(place), _client_seconds()
    found, error = None, ""
    try:
        found = analyzer.run(load, place.url).as_json()
    except analyzer.AnalyzerError as failure:
        error = str(failure)
    stages = observe.between(before, observe.read(place))
    stages["client"] = observe.Stage(0, 0.0, 0.0, _client_seconds() - client_before)
    _say(group, load, found, error)
    return {
        "group": group,
        "load": asdict(load),
        "figures": found,
        "error": error,
        "stages": {name: asdict(stage) for name, stage in stages.items()},
        "memory_bytes": _memory(place),
        "load_average": busy,
    }


def compared(place: Place, checkpoint: str, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield rounds of: the server with eight clients and with one, `generate()` one by one and on eight."""
    for number in range(rounds):
        eight, one = (
            analyzer.run(
                Load(f"{clients} clients", 8 * clients, (CLIP_S,), MAX_TOKENS, clients), place.url
            ).as_json()
            for clients in (CLIENTS, 1)
        )
        single, batched = (
            asdict(baseline.measure(checkpoint, CLIP_S, MAX_TOKENS, batch, 2 * CLIENTS, os.cpu_count() or 1))
            for batch in (1, CLIENTS)
        )
        print(f"baseline, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        yield {
            "clients_8": eight,
            "clients_1": one,
            "generate_one_by_one": single,
            "generate_batched": batched,
        }


def _client_seconds() -> float:
    """Processor time of perf_analyzer so far; it runs on the same cores."""
    times = os.times()
    return times.children_user + times.children_system


def _memory(place: Place) -> int | None:
    return None if place.pid is None else observe.memory_bytes(place.pid)


def _machine(target: str, manifest: Manifest) -> dict[str, Any]:
    return {
        "target": target,
        "checkpoint": manifest.checkpoint.name,
        "precision": manifest.precision.model_dump(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "processor": processor(),
        "python": platform.python_version(),
    }


def processor() -> str:
    """The name of the machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _say(group: str, load: Load, found: dict[str, Any] | None, error: str) -> None:
    if found is None:
        print(f"{group}, {load.name}: {error}", file=sys.stderr, flush=True)
        return
    first_ms = 1000 * (found["first_token_s"]["p50"] or 0)
    print(
        f"{group}, {load.name}: {found['requests_per_s']:.2f} requests/s, {found['tokens_per_s']:.0f} tokens/s,"
        f" first token {first_ms:.0f} ms, errors {found['errors']}",
        flush=True,
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="cpu", help="which engines/<target> (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two or three minutes instead of a quarter hour")
    parser.add_argument("--url", help="gRPC address of a running server (its processes cannot be observed)")
    parser.add_argument("--metrics-url", help="metrics address of that server: http://HOST:8002/metrics")
    parser.add_argument("--no-baseline", action="store_true", help="without Transformers")
    parser.add_argument(
        "--checkpoint", help="the baseline's checkpoint (default: the one the engines were built from)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
