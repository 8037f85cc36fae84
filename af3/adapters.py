"""Which LoRA answers a request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from af3.errors import invalid

THINK = "think"  # the one that comes with Audio Flamingo 3


def check_adapter(name: str, available: Collection[str]) -> None:
    """Raise RequestError for one that was not built."""
    if name not in available:
        known = ", ".join(sorted(available)) or "none"
        raise invalid(f"parameter 'adapter': there is no '{name}'; these engines have: {known}")


def adapter_of(parameters: Mapping[str, Any], available: Collection[str]) -> str | None:
    """The one a request names; the thinking one, where it was built, for a request that is to think."""
    if (name := parameters.get("adapter")) is not None:
        check_adapter(name, available)
        return str(name)
    return THINK if parameters.get("think") and THINK in available else None
