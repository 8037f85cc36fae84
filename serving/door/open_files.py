"""Computes how many connections the door can hold without running out of file handles."""

from __future__ import annotations

import resource
from contextlib import suppress

RESERVED = 256  # for Triton, logs, /proc, and what the supervisor opens
MOST = 2048


def raise_limit() -> None:
    """Take as many file handles as this process may: the usual soft limit, 1024, is a few hundred connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_allowed() -> int:
    """Most connections of each protocol."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST
    return max(16, min(MOST, (soft - RESERVED) // 3))
