"""Tables and plots of a run, from its raw figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from perf.plots import DOTS_PER_INCH, SIZE_INCHES
from perf.report import table

MIB = 1 << 20
OURS = "ours"
COLOURS = {OURS: "#9b2226", "vLLM": "#1b4965", "transformers serve": "#5fa8d3", "llama.cpp": "#ca6702"}
HEAD = (
    "at once",
    "server",
    "requests/s",
    "tokens/s",
    "first token p50, ms",
    "p95",
    "ms a token",
    "gap p99, ms",
    "requests/s, ours : theirs",
    "first token, theirs : ours",
)
# Ours must be at least so many times the best of the others in requests/s.
WANTED_RATIO = {5.0: 3.5, 29.0: 1.5, 75.0: 1.5}
MOST_START_S = 2.0
MOST_MEMORY_MIB = 250

Key = tuple[float, int, int]  # seconds of a clip, tokens of an answer, clients


def write(raw: Mapping[str, Any], folder: Path) -> None:
    """Write report.md, throughput.png and clip_length.png."""
    (folder / "report.md").write_text(text(raw))
    _throughput(raw, folder / "throughput.png")
    _lengths(raw, folder / "clip_length.png")


def text(raw: Mapping[str, Any]) -> str:
    """Markdown: what ran, a table for each kind of question, start and memory, exactness, and what was wanted."""
    parts = [_head(raw)]
    for seconds, tokens in dict.fromkeys((key[0], key[1]) for key in _keys(raw)):
        rows = [row for key in _keys(raw) if key[:2] == (seconds, tokens) for row in _rows(raw, key)]
        parts.append(f"### {seconds:g} s clips, {tokens} tokens an answer\n\n{table(HEAD, rows)}")
    parts.append(_starts(raw))
    parts.append("### What was wanted\n\n" + "\n".join(f"- {line}" for line in verdicts(raw)))
    return "\n\n".join(parts) + "\n"


def verdicts(raw: Mapping[str, Any]) -> list[str]:
    """One line for each thing that was wanted: met, or missed and by how much."""
    lines = []
    for key in _keys(raw):
        seconds, tokens, clients = key
        others = [
            name for name in raw["servers"] if name != OURS and _values(raw, key, name, "requests_per_s")
        ]
        if not others or tokens != raw["tokens"]:
            continue
        wanted = WANTED_RATIO.get(seconds, 1.0)
        best = min(others, key=lambda name: _middle(_ratios(raw, key, name, "requests_per_s")))
        ratio = _middle(_ratios(raw, key, best, "requests_per_s"))
        soonest = min(others, key=lambda name: _middle(_ratios(raw, key, name, "first_p50_s", inverse=True)))
        first = _middle(_ratios(raw, key, soonest, "first_p50_s", inverse=True))
        lines.append(
            f"{seconds:g} s, {clients} at once: {ratio:.2f}× {best} in requests/s (≥ {wanted}),"
            f" first token {first:.2f}× as soon as {soonest} (≥ 1): {_met(ratio >= wanted and first >= 1)}"
        )
    mine = raw["servers"][OURS]
    lines.append(
        f"start {mine['start_s']:.1f} s (≤ {MOST_START_S:g}), memory {mine['memory_bytes'] / MIB:.0f} MiB"
        f" (≤ {MOST_MEMORY_MIB}): "
        + _met(mine["start_s"] <= MOST_START_S and mine["memory_bytes"] <= MOST_MEMORY_MIB * MIB)
    )
    return lines


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _head(raw: Mapping[str, Any]) -> str:
    names = ", ".join(f"{name} {server['version']}".strip() for name, server in raw["servers"].items())
    return (
        f"# Other servers beside this one\n\n`make peers` on {raw['date']}: {raw['checkpoint']} in fp32,"
        f" {raw['cores']} cores ({raw['processor']}), load average {raw['load_average']:.1f} before it."
        f" Servers: {names}. Median of {raw['rounds']} rounds (least–most); every ratio is of one round."
        " No two questions to a server share a clip. Clients are in a closed loop and share the cores with the servers."
    )


def _rows(raw: Mapping[str, Any], key: Key) -> list[list[str]]:
    rows = []
    for name in raw["servers"]:
        if not _values(raw, key, name, "requests_per_s"):
            continue
        cells = [str(key[2]), name]
        cells.append(_spread(_values(raw, key, name, "requests_per_s"), 1, 2))
        cells.append(_spread(_values(raw, key, name, "tokens_per_s"), 1, 0))
        for figure, digits in (("first_p50_s", 0), ("first_p95_s", 0), ("token_s", 2), ("gap_p99_s", 0)):
            cells.append(_spread(_values(raw, key, name, figure), 1000, digits))
        if name == OURS:
            cells += ["", ""]
        else:
            cells.append(_spread(_ratios(raw, key, name, "requests_per_s"), 1, 2))
            cells.append(_spread(_ratios(raw, key, name, "first_p50_s", inverse=True), 1, 2))
        rows.append(cells)
    return rows


def _starts(raw: Mapping[str, Any]) -> str:
    rows = []
    for name, server in raw["servers"].items():
        same = raw["exact"].get(name)
        exact = f"{same['same']} of {same['asked']}" if same else "–"
        if same and same["refused"]:
            exact += f", {same['refused']} refused"
        rows.append(
            [
                name,
                f"{server['start_s']:.1f}",
                f"{server['memory_bytes'] / MIB:.0f}",
                f"{server['memory_after_bytes'] / MIB:.0f}",
                exact,
            ]
        )
    head = ("server", "first answer, s", "memory after it, MiB", "at the end", "same text as `generate()`")
    return "### Start, memory, exactness\n\n" + table(head, rows)


def _keys(raw: Mapping[str, Any]) -> list[Key]:
    return list(dict.fromkeys((load["seconds"], load["tokens"], load["clients"]) for load in raw["loads"]))


def _values(raw: Mapping[str, Any], key: Key, name: str, figure: str) -> list[float]:
    return list(_by_round(raw, key, name, figure).values())


def _by_round(raw: Mapping[str, Any], key: Key, name: str, figure: str) -> dict[int, float]:
    return {
        load["round"]: load["figures"][figure]
        for load in raw["loads"]
        if (load["seconds"], load["tokens"], load["clients"]) == key
        and load["server"] == name
        and load["figures"]
    }


def _ratios(raw: Mapping[str, Any], key: Key, name: str, figure: str, inverse: bool = False) -> list[float]:
    """Ours divided by theirs (theirs by ours with `inverse`), of the rounds that both have."""
    mine, theirs = _by_round(raw, key, OURS, figure), _by_round(raw, key, name, figure)
    found = [mine[number] / theirs[number] for number in mine if number in theirs]
    return [1 / ratio for ratio in found] if inverse else found


def _middle(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


def _spread(values: Sequence[float], scale: float, digits: int) -> str:
    if not values:
        return "–"
    low, middle, high = (
        f"{scale * value:.{digits}f}" for value in (min(values), _middle(values), max(values))
    )
    return middle if low == high else f"{middle} ({low}–{high})"


def _throughput(raw: Mapping[str, Any], path: Path) -> None:
    """Requests/s over the first token, a line a server and a point a number of clients; one panel a clip length."""
    lengths = list(dict.fromkeys(key[0] for key in _keys(raw) if key[1] == raw["tokens"]))
    figure, panels = pyplot.subplots(
        1, len(lengths), figsize=(SIZE_INCHES[0] * 1.4, SIZE_INCHES[1]), squeeze=False
    )
    for panel, seconds in zip(panels[0], lengths, strict=True):
        for name in raw["servers"]:
            points = [
                (
                    1000 * _middle(_values(raw, key, name, "first_p50_s")),
                    _middle(_values(raw, key, name, "requests_per_s")),
                    key[2],
                )
                for key in _keys(raw)
                if key[:2] == (seconds, raw["tokens"]) and _values(raw, key, name, "requests_per_s")
            ]
            if not points:
                continue
            panel.plot(
                [x for x, _, _ in points],
                [y for _, y, _ in points],
                marker="o",
                markersize=3,
                color=COLOURS[name],
                label=name,
            )
            for x, y, clients in points:
                panel.annotate(str(clients), (x, y), textcoords="offset points", xytext=(3, 3), fontsize=6)
        panel.set_xscale("log")
        panel.set_title(f"{seconds:g} s clips", fontsize=9)
        panel.set_xlabel("first token p50, ms", fontsize=8)
        panel.set_ylim(bottom=0)
    panels[0][0].set_ylabel("requests/s", fontsize=8)
    panels[0][0].legend(fontsize=7)
    _save(figure, panels[0], path)


def _lengths(raw: Mapping[str, Any], path: Path) -> None:
    """First token and whole answer by clip length, one client."""
    keys = [key for key in _keys(raw) if key[1:] == (raw["tokens"], 1)]
    figure, panels = pyplot.subplots(1, 2, figsize=SIZE_INCHES)
    for panel, value, title in zip(
        panels, ("first_p50_s", "whole_p50_s"), ("first token p50, ms", "whole answer p50, ms"), strict=True
    ):
        for name in raw["servers"]:
            points = [
                (key[0], 1000 * _middle(_values(raw, key, name, value)))
                for key in keys
                if _values(raw, key, name, value)
            ]
            panel.plot(
                [x for x, _ in points],
                [y for _, y in points],
                marker="o",
                markersize=3,
                color=COLOURS[name],
                label=name,
            )
        panel.set_title(title, fontsize=9)
        panel.set_xlabel("clip, s", fontsize=8)
        panel.set_ylim(bottom=0)
    panels[0].legend(fontsize=7)
    _save(figure, panels, path)


def _save(figure: Any, panels: Sequence[Any], path: Path) -> None:
    for panel in panels:
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=DOTS_PER_INCH)
    pyplot.close(figure)
