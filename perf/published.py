"""Compares ratios that were just measured with those that the documentation publishes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
RATIO = re.compile(r"([\d.]+)× \(([\d.]+)–([\d.]+)\)")
NAME, FIGURES = 1, 3  # cells of a row of the page's table of targets


@dataclass(frozen=True)
class Published:
    """A ratio and its spread."""

    ratio: float
    low: float
    high: float


def read(page: Path = PAGE) -> dict[str, Published]:
    """Every row of a table with a ratio and its spread, by the name in its first cell."""
    found = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        match = RATIO.match(cells[FIGURES]) if len(cells) > FIGURES else None
        if match:
            found[cells[NAME]] = Published(*map(float, match.groups()))
    return found


def differences(measured: Mapping[str, float], published: Mapping[str, Published]) -> list[str]:
    """One sentence for every measured ratio outside the published spread, and for every one that is not published."""
    sentences = []
    for name, ratio in measured.items():
        if name not in published:
            sentences.append(f"'{name}' is not in {PAGE.name}; it measured {ratio:.1f}×")
            continue
        known = published[name]
        if not known.low <= ratio <= known.high:
            sentences.append(
                f"'{name}' measured {ratio:.1f}×, {PAGE.name} says {known.ratio:g}× ({known.low:g}–{known.high:g});"
                " measure again on a quiet machine and correct the page"
            )
    return sentences
