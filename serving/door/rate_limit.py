"""So much a minute: a bucket that fills evenly."""

from __future__ import annotations

import math


class Bucket:
    """`per_minute` may be taken at once, then it fills again at that pace.

    What is known only afterwards, such as the length of a clip, may be taken past the bottom; until the bucket has
    filled again nothing more is let through.
    """

    def __init__(self, per_minute: float, now_s: float):
        self._per_minute = per_minute
        self._level = per_minute
        self._at_s = now_s

    def wait_s(self, amount: float, now_s: float) -> int:
        """Whole seconds until `amount` is there; 0: now."""
        missing = amount - self._filled(now_s)
        return 0 if missing <= 0 else max(1, math.ceil(60 * missing / self._per_minute))

    def take(self, amount: float, now_s: float) -> None:
        self._level = self._filled(now_s) - amount
        self._at_s = now_s

    def _filled(self, now_s: float) -> float:
        return min(self._per_minute, self._level + self._per_minute * (now_s - self._at_s) / 60)
