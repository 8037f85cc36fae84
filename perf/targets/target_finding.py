"""What a target's measurement says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the table. met: None where there is nothing to be met, only to be known."""

    what: str
    wanted: str
    measured: str
    met: bool | None
