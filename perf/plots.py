"""Draws the plots of a report as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

SIZE_INCHES = (7, 3.6)
DOTS_PER_INCH = 90
SHADES = ("#1b4965", "#5fa8d3", "#ca6702", "#9b2226")
LATENCY = (("p50", SHADES[0]), ("p90", SHADES[1]), ("p99", SHADES[3]))


def draw(raw: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw one file per group; groups without figures are left out."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cell in raw["cells"]:
        if cell["figures"]:
            groups.setdefault(cell["group"], []).append(cell)
    made = []
    for group, cells in groups.items():
        if len(cells) > 1:
            made.append(_group(group, cells, folder / f"{group.replace(' ', '_')}.png"))
    return made


def _group(group: str, cells: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draw throughput on the left, time to first token and to the end on the right."""
    labels = [_short(cell["load"]["name"]) for cell in cells]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=SIZE_INCHES)
    left.bar(labels, [cell["figures"]["tokens_per_s"] for cell in cells], color=SHADES[1])
    left.set_title("tokens/s", fontsize=9)
    for name, shade in LATENCY:
        values = [1000 * (cell["figures"]["first_token_s"][name] or 0) for cell in cells]
        right.plot(labels, values, marker="o", markersize=3, color=shade, label=name)
    right.set_title("first token, ms", fontsize=9)
    right.set_ylim(bottom=0)
    right.legend(fontsize=7)
    for axis in (left, right):
        axis.tick_params(labelsize=7)
        axis.tick_params(axis="x", rotation=35)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"by {group}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=DOTS_PER_INCH)
    pyplot.close(figure)
    return path


def _short(name: str) -> str:
    return name.replace(" at once", "×").replace(" of capacity", "").replace(" tokens,", ",")
