"""Whose turn it is at something that serves one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class FairTurns(Generic[T]):
    """Every other turn belongs to the one with the least left, those between to the one that has waited longest.

    So one with a single turn left waits for at most two turns of others with more, and one with many gets its share
    beside any number with few. For one thread.
    """

    def __init__(self) -> None:
        self._least_first = False
        self._now = 0
        # When they had their last turn, or were first seen. Weak: what has ended must not be kept.
        self._last: WeakKeyDictionary[T, int] = WeakKeyDictionary()

    def next(self, waiting: Sequence[T], left: Callable[[T], int]) -> T:
        """Choose one of `waiting`, which is in the order of arrival. left: how much work one has left."""
        self._now += 1
        for one in waiting:
            self._last.setdefault(one, self._now)
        self._least_first = not self._least_first
        chosen = min(waiting, key=left if self._least_first else self._last.__getitem__)
        self._last[chosen] = self._now
        return chosen
