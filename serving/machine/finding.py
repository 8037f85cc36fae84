"""One line of what `make doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GB = 1_000_000_000
State = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """`remedy` says how to get what is not there."""

    what: str
    state: State
    found: str
    remedy: str = ""
