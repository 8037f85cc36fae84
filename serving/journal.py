"""The journal: one JSON line per request and per stage of it, from every process of the server.

One setting turns it on (`serving.host.launch --journal FILE`, or the variable AF3_JOURNAL). It holds ids, sizes,
times and statuses, and never text, audio, embeddings or keys.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

VARIABLE = "AF3_JOURNAL"
_files: dict[str, int] = {}


def open_at(path: Path) -> None:
    """Write to this file from now on, and from the processes that are started from now on. Raises OSError."""
    _files[str(path.absolute())] = _opened(str(path.absolute()))
    os.environ[VARIABLE] = str(path.absolute())


def enabled() -> bool:
    return VARIABLE in os.environ


def write(event: str, **fields: str | float | int | None) -> None:
    """Append a line. One write of less than a page each, so that lines of several processes do not mix."""
    path = os.environ.get(VARIABLE)
    if path is None:
        return
    line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}) + "\n"
    try:
        if path not in _files:
            _files[path] = _opened(path)
        os.write(_files[path], line.encode())
    except OSError:
        pass  # a full disk must not fail requests; what they cost is still counted on /metrics


def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
