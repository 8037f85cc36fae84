"""The result of measuring a target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the table. met: None when there is no target."""

    what: str
    wanted: str
    measured: str
    met: bool | None
