"""Responses that clients have not taken yet: each answer may keep some, and all of them share what is beyond that."""

from __future__ import annotations

import asyncio

OWN_BYTES = 256 << 10
SHARED_BYTES = 256 << 20


class UnreadBudget:
    """Bytes of the answers that wait in the door for their clients. For one event loop."""

    def __init__(self, own_bytes: int = OWN_BYTES, shared_bytes: int = SHARED_BYTES):
        self.own_bytes = own_bytes
        self.shared_bytes = shared_bytes
        self.bytes = 0
        self.waiting: set[asyncio.Event] = set()


class Unread:
    """One answer's share of the budget."""

    def __init__(self, budget: UnreadBudget):
        self._budget = budget
        self._bytes = 0
        self._changed = asyncio.Event()

    @property
    def has_room(self) -> bool:
        """True if more may be read from Triton."""
        return self._bytes <= self._budget.own_bytes or self._budget.bytes <= self._budget.shared_bytes

    def take(self, count: int) -> None:
        self._bytes += count
        self._budget.bytes += count

    def give_back(self, count: int) -> None:
        """The client has taken so many, or lost them."""
        self.take(-count)
        self._changed.set()
        if self._budget.bytes <= self._budget.shared_bytes:
            for event in self._budget.waiting:
                event.set()

    def give_back_all(self) -> None:
        self.give_back(self._bytes)

    async def changed(self, timeout_s: float) -> None:
        """Wait until something was given back. Raises asyncio.TimeoutError."""
        self._changed.clear()
        self._budget.waiting.add(self._changed)
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        finally:
            self._budget.waiting.discard(self._changed)
