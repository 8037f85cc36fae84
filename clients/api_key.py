"""The key of a server that asks who calls."""

from __future__ import annotations

import os

VARIABLE = "AUDIO_FLAMINGO_API_KEY"
Metadata = tuple[tuple[str, str], ...]


def authorization(api_key: str | None = None) -> Metadata:
    """The metadata of a call; that of the environment's key where none is given, nothing without one."""
    key = os.environ.get(VARIABLE, "") if api_key is None else api_key
    return (("authorization", f"Bearer {key.strip()}"),) if key.strip() else ()
