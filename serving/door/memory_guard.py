"""Measures the memory of this process that the door does not account for: messages that arrived only in part."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

PARSING = 4  # a request takes up to so many times its size while it is parsed and sent on


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def in_use_bytes() -> int | None:
    """Bytes allocated by malloc and not freed; None where glibc cannot tell."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    return int(found.uordblks + found.hblkhd)


class MemoryGuard:
    """Compares what is in use with what is known of."""

    def __init__(
        self,
        most_hidden_bytes: int,
        known_bytes: Callable[[], int],
        in_use: Callable[[], int | None] = in_use_bytes,
    ):
        """`known_bytes`: of requests, answers and clips that the door holds now."""
        self.most_bytes = most_hidden_bytes
        self._known = known_bytes
        self._in_use = in_use
        self._at_first = (in_use() or 0) - known_bytes()

    @property
    def excess_bytes(self) -> int:
        """Beyond what may be hidden; 0 or less: all is well."""
        found = self._in_use()
        if found is None:
            return 0
        return found - self._at_first - self._known() - self.most_bytes
