"""Chooses the LoRA that answers a request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from af3.errors import invalid

THINK = "think"  # the adapter that Audio Flamingo 3 comes with


def check_adapter(name: str, available: Collection[str]) -> None:
    """Raise RequestError for an adapter that was not built."""
    if name not in available:
        known = ", ".join(sorted(available)) or "none"
        raise invalid(f"parameter 'adapter': there is no '{name}'; these engines have: {known}")


def adapter_of(parameters: Mapping[str, Any], available: Collection[str]) -> str | None:
    """Return the adapter that a request names; with `think`, the thinking adapter if it was built."""
    if (name := parameters.get("adapter")) is not None:
        check_adapter(name, available)
        return str(name)
    return THINK if parameters.get("think") and THINK in available else None
