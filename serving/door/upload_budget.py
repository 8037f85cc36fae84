"""Memory for requests on their way in: one budget for all of them, whatever the protocol."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType

from af3.errors import Full, RequestError
from serving.door.admission import Limits
from serving.door.caller import ANYONE, Caller, current_caller

RETRY_S = 2


class UploadBudget:
    """Bytes and count of the requests that are being received, parsed or sent on to Triton.

    A caller that has some already may announce half of what the others hold free: so a newcomer always finds room. Of
    all together only what has come is counted: announcing alone takes nothing from anybody. Any thread may use it.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.lock = threading.RLock()
        self.bytes = 0
        self.count = 0
        self.held_by: Counter[Caller] = Counter()
        self.announced_by: Counter[Caller] = Counter()
        self.count_of: Counter[Caller] = Counter()

    def open(self, announced_bytes: int = 0) -> Upload:
        """The share of one request of the context's caller. Raises RequestError when too large, or without room."""
        caller = current_caller()
        if announced_bytes > self.limits.message_bytes:
            raise self.too_large(f"{announced_bytes} bytes")
        with self.lock:
            return self._open(caller, announced_bytes)

    def _open(self, caller: Caller, announced_bytes: int) -> Upload:
        alone = caller is ANYONE or not self.count_of[caller]
        if not _has_room(1, self.count, self.count_of[caller], self.limits.uploads, alone):
            raise self.full()
        if self.bytes + announced_bytes > self.limits.upload_bytes:
            raise self.full()
        self.announce(announced_bytes, caller, alone)
        return Upload(self, caller, announced_bytes)

    def announce(self, more_bytes: int, caller: Caller, alone: bool) -> None:
        """Called by Upload too. `alone`: the only request of a caller needs no share, it may be as large as any."""
        others = self.bytes - self.held_by[caller]
        if not alone and 2 * (self.announced_by[caller] + more_bytes) > self.limits.upload_bytes - others:
            raise self.full()
        self.announced_by[caller] += more_bytes

    def too_large(self, found: str) -> RequestError:
        return RequestError(
            "RESOURCE_EXHAUSTED",
            f"the request has {found}, the limit is {self.limits.message_bytes};"
            " send shorter or compressed (FLAC, OGG) clips",
        )

    def full(self) -> RequestError:
        return Full(
            f"{self.count} requests of {self.bytes >> 20} MB are being received, the most that fit in memory;"
            f" try again in {RETRY_S} s",
            RETRY_S,
        )


class Upload:
    """One request's share of the budget; give it back with `release`, or use it as a context manager."""

    def __init__(self, budget: UploadBudget, caller: Caller, announced_bytes: int):
        self._budget = budget
        self._caller = caller
        self._open = True
        self._announced = announced_bytes
        self.bytes = 0
        budget.count += 1
        budget.count_of[caller] += 1

    def grow(self, count: int) -> None:
        """`count` more bytes have come. Raises RequestError when they are too many, and then holds nothing any more.

        At once, not when its client has been told: of many that grow alike all would be refused meanwhile.
        """
        with self._budget.lock:
            if self._open:  # else nobody waits for them any more
                try:
                    self._grow(count)
                except RequestError:
                    self._release()
                    raise

    def _grow(self, count: int) -> None:
        budget, caller = self._budget, self._caller
        if self.bytes + count > budget.limits.message_bytes:
            raise budget.too_large(f"more than {self.bytes} bytes")
        if budget.bytes + count > budget.limits.upload_bytes:
            raise budget.full()
        if (more := self.bytes + count - self._announced) > 0:
            budget.announce(more, caller, caller is ANYONE or budget.count_of[caller] == 1)
            self._announced += more
        self.bytes += count
        budget.bytes += count
        budget.held_by[caller] += count

    def release(self) -> None:
        with self._budget.lock:
            if self._open:
                self._release()

    def _release(self) -> None:
        self._open = False
        budget, caller = self._budget, self._caller
        budget.count -= 1
        budget.bytes -= self.bytes
        budget.held_by[caller] -= self.bytes
        budget.announced_by[caller] -= self._announced
        budget.count_of[caller] -= 1
        if not budget.count_of[caller]:
            del budget.count_of[caller], budget.held_by[caller], budget.announced_by[caller]

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _has_room(more: int, all_held: int, own: int, most: int, alone: bool) -> bool:
    """`alone`: the only request of a caller needs no share, it may be as large as any."""
    if all_held + more > most:
        return False
    return alone or 2 * (own + more) <= most - (all_held - own)
