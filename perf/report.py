"""Turns the raw figures of a sweep into Markdown, plots and a self-contained page: `python -m perf.report raw.json`."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perf import page, plots

Raw = Mapping[str, Any]
LATENCIES = (
    ("first_token_s", "first token"),
    ("inter_token_s", "between tokens"),
    ("first_audio_s", "first audio"),
    ("end_to_end_s", "end to end"),
)
PERCENTILES = ("p50", "p90", "p95", "p99")


def write(raw: Raw, folder: Path) -> None:
    """Write `report.md`, its plots, and the self-contained `report.html`."""
    text = markdown(raw)
    images = plots.draw(raw, folder)
    linked = "\n\n".join(f"![{path.stem}]({path.name})" for path in images)
    (folder / "report.md").write_text(f"{text}\n{linked}\n" if images else text)
    (folder / "report.html").write_text(page.html(text, images))


def markdown(raw: Raw) -> str:
    """Render every table of the report."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cell in raw["cells"]:
        groups.setdefault(cell["group"], []).append(cell)
    parts = [_heading(raw)]
    if raw.get("compared"):
        parts.append(_comparison(raw["compared"]))
    for group, cells in groups.items():
        parts.append(f"## By {group}\n\n{_latencies(cells)}\n\n{_stages(cells)}")
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ratios(rounds: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[float]]]:
    """Compare the server with Transformers by round: (quantity, how many times better)."""

    def of(ours: str, theirs: str, figure: str, baseline: str) -> list[float]:
        found = []
        for one in rounds:
            mine, other = _value(one[ours][figure]), one[theirs][baseline]
            found.append(mine / other if figure.endswith("per_s") else other / mine)
        return found

    single, batched = "generate_one_by_one", "generate_batched"
    return [
        (
            "requests/s, 8 clients : `generate()` one by one",
            of("clients_8", single, "requests_per_s", "requests_per_s"),
        ),
        (
            "requests/s, 8 clients : `generate()` on batches of 8",
            of("clients_8", batched, "requests_per_s", "requests_per_s"),
        ),
        (
            "first token, `generate()` alone : 8 clients",
            of("clients_8", single, "first_token_s", "first_token_s"),
        ),
        (
            "first token, `generate()` on a batch of 8 : 8 clients",
            of("clients_8", batched, "first_token_s", "first_token_s"),
        ),
        (
            "first token, `generate()` alone : 1 client",
            of("clients_1", single, "first_token_s", "first_token_s"),
        ),
        (
            "requests/s, 1 client : `generate()` one by one",
            of("clients_1", single, "requests_per_s", "requests_per_s"),
        ),
    ]


def _value(figure: Any) -> float:
    return float(figure["p50"] if isinstance(figure, Mapping) else figure)


def _heading(raw: Raw) -> str:
    machine = raw["machine"]
    precision = ", ".join(f"{part} {kind}" for part, kind in machine["precision"].items())
    lines = [
        f"# {machine['checkpoint']} on {machine['target']}",
        f"{machine['cores']} cores of {machine['processor'] or machine['platform']}, {precision};"
        f" {len(raw['cells'])} loads in {raw['duration_s'] / 60:.1f} minutes. Clips of different content unless said,"
        " answers of full length (`perf/endless.py`).",
    ]
    if raw["ready_s"] is not None:
        lines.append(
            f"Ready after {raw['ready_s']:.1f} s; memory at rest {_mib(raw['memory_at_rest_bytes'])} MiB, after the"
            f" last load {_mib(raw['memory_after_bytes'])} MiB (proportional set size of all processes)."
        )
    return "\n\n".join(lines)


def _comparison(rounds: Sequence[Mapping[str, Any]]) -> str:
    first = rounds[0]["generate_one_by_one"]
    intro = (
        f"The same checkpoint, machine and run; clips of {first['audio_s']:g} s, {first['tokens']} tokens an answer."
        " First token: medians; nobody queues before `generate()`."
    )
    rows = [
        [what, f"{statistics.median(values):.1f}×", f"{min(values):.1f}–{max(values):.1f}"]
        for what, values in ratios(rounds)
    ]
    absolute = [
        [
            name,
            _over(rounds, name, "requests_per_s", 1),
            _over(rounds, name, "first_token_s", 1000),
            _over(rounds, name, "end_to_end_s", 1000),
        ]
        for name in rounds[0]
    ]
    head = ["medians of the rounds", "requests/s", "first token, ms", "end to end, ms"]
    return (
        f"## Against Transformers\n\n{intro}\n\n{table(['ratio', 'median', 'spread'], rows)}"
        f"\n\n{table(head, absolute)}"
    )


def _over(rounds: Sequence[Mapping[str, Any]], name: str, figure: str, scale: float) -> str:
    return f"{scale * statistics.median(_value(one[name][figure]) for one in rounds):.1f}"


def _latencies(cells: Sequence[Mapping[str, Any]]) -> str:
    spoken = any(cell["figures"] and cell["figures"]["first_audio_s"]["samples"] for cell in cells)
    shown = [(key, title) for key, title in LATENCIES if spoken or key != "first_audio_s"]
    head = ["load", "requests", "errors", "requests/s", "tokens/s", "audio s/s"]
    head += [f"{title}, ms: {' / '.join(PERCENTILES)}" for _, title in shown]
    rows = []
    for cell in cells:
        found = cell["figures"]
        if found is None:
            rows.append([cell["load"]["name"], cell["error"], *["–"] * (len(head) - 2)])
            continue
        numbers = [f"{found[key]:.1f}" for key in ("requests_per_s", "tokens_per_s", "audio_s_per_s")]
        latencies = [_percentiles(found[key]) for key, _ in shown]
        rows.append(
            [cell["load"]["name"], str(found["requests"]), str(found["errors"]), *numbers, *latencies]
        )
    return table(head, rows)


def _percentiles(spread: Mapping[str, float | None]) -> str:
    values = [spread[name] for name in PERCENTILES]
    return " / ".join("–" if value is None else f"{1000 * value:.1f}" for value in values)


def _stages(cells: Sequence[Mapping[str, Any]]) -> str:
    """Render processor milliseconds per request, and queue and compute per execution."""
    names = sorted({name for cell in cells for name in cell["stages"]})
    head = ["load", *(f"{name}: queue + compute, processor" for name in names), "memory, MiB", "load average"]
    rows = []
    for cell in cells:
        requests = cell["figures"]["requests"] if cell["figures"] else 0
        stages = [_stage(cell["stages"].get(name), requests) for name in names]
        memory = _mib(cell["memory_bytes"])
        rows.append([cell["load"]["name"], *stages, memory, f"{cell['load_average']:.1f}"])
    return "Milliseconds: queue and compute per execution, processor per request.\n\n" + table(head, rows)


def _stage(stage: Mapping[str, Any] | None, requests: int) -> str:
    if stage is None:
        return "–"
    busy = stage["processor_s"]
    processor = "–" if busy is None or not requests else f"{1000 * busy / requests:.1f}"
    if not stage["executions"]:
        return processor
    return f"{stage['queue_ms']:.1f} + {stage['compute_ms']:.1f}, {processor}"


def _mib(size: int | None) -> str:
    return "–" if size is None else f"{size / 2**20:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw", type=Path, help="raw.json of a sweep; the report is written beside it")
    path = parser.parse_args().raw
    write(json.loads(path.read_text()), path.parent)
    print(f"{path.parent}/report.md, {path.parent}/report.html")


if __name__ == "__main__":
    main()
