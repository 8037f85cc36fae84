"""Memory for requests on their way in: one budget for all of them, whatever the protocol."""

from __future__ import annotations

from collections import Counter
from types import TracebackType

from af3.errors import Full, RequestError
from serving.door.admission import Limits
from serving.door.caller import ANYONE, Caller, current_caller

RETRY_S = 2


class UploadBudget:
    """Bytes and count of the requests that are being received, parsed or sent on to Triton.

    A caller that has some already may take half of what the others leave: so a newcomer always finds room. What a
    request announces is held from its start, so that none that was begun runs out of room.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.bytes = 0
        self.count = 0
        self.bytes_of: Counter[Caller] = Counter()
        self.count_of: Counter[Caller] = Counter()

    def open(self, announced_bytes: int = 0) -> Upload:
        """The share of one request of the context's caller. Raises RequestError when too large, or without room."""
        caller = current_caller()
        if announced_bytes > self.limits.message_bytes:
            raise self.too_large(f"{announced_bytes} bytes")
        alone = caller is ANYONE or not self.count_of[caller]
        if not _has_room(1, self.count, self.count_of[caller], self.limits.uploads, alone):
            raise self._full()
        upload = Upload(self, caller)
        try:
            upload.hold(announced_bytes)
        except RequestError:
            upload.release()
            raise
        return upload

    def hold(self, more_bytes: int, caller: Caller) -> None:
        """Called by Upload alone."""
        alone = caller is ANYONE or self.count_of[caller] == 1
        if not _has_room(more_bytes, self.bytes, self.bytes_of[caller], self.limits.upload_bytes, alone):
            raise self._full()
        self.bytes += more_bytes
        self.bytes_of[caller] += more_bytes

    def too_large(self, found: str) -> RequestError:
        return RequestError(
            "RESOURCE_EXHAUSTED",
            f"the request has {found}, the limit is {self.limits.message_bytes};"
            " send shorter or compressed (FLAC, OGG) clips",
        )

    def _full(self) -> RequestError:
        return Full(
            f"{self.count} requests of {self.bytes >> 20} MB are being received, the most that fit in memory;"
            f" try again in {RETRY_S} s",
            RETRY_S,
        )


class Upload:
    """What one request holds of the budget; give it back with `release`, or use it as a context manager."""

    def __init__(self, budget: UploadBudget, caller: Caller):
        self._budget = budget
        self._caller = caller
        self._open = True
        self._held_bytes = 0
        self.bytes = 0  # that have come
        budget.count += 1
        budget.count_of[caller] += 1

    def hold(self, count: int) -> None:
        """So many more bytes are to come. Raises RequestError when there is no room for them."""
        self._budget.hold(count, self._caller)
        self._held_bytes += count

    def grow(self, count: int) -> None:
        """`count` more bytes have come. Raises RequestError when they are too many."""
        if self.bytes + count > self._budget.limits.message_bytes:
            raise self._budget.too_large(f"more than {self.bytes} bytes")
        if self.bytes + count > self._held_bytes:
            self.hold(self.bytes + count - self._held_bytes)
        self.bytes += count

    def release(self) -> None:
        if not self._open:
            return
        self._open = False
        budget, caller = self._budget, self._caller
        budget.count -= 1
        budget.bytes -= self._held_bytes
        budget.bytes_of[caller] -= self._held_bytes
        budget.count_of[caller] -= 1
        if not budget.count_of[caller]:
            del budget.count_of[caller], budget.bytes_of[caller]

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
