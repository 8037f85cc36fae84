"""Memory for requests on their way in: one budget for all of them, whatever the protocol."""

from __future__ import annotations

from types import TracebackType

from af3.errors import Full, RequestError
from serving.door.admission import Limits

RETRY_S = 2


class UploadBudget:
    """Bytes and count of the requests that are being received, parsed or sent on to Triton."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.bytes = 0
        self.count = 0

    def open(self, announced_bytes: int = 0) -> Upload:
        """The share of one request. Raises RequestError when it is too large, or finds no room now."""
        if announced_bytes > self.limits.message_bytes:
            raise self.too_large(f"{announced_bytes} bytes")
        if self.count >= self.limits.uploads:
            raise self._full()
        self.check_room(announced_bytes)
        return Upload(self)

    def check_room(self, more_bytes: int) -> None:
        """Raise RequestError when so many more bytes do not fit now."""
        if self.bytes + more_bytes > self.limits.upload_bytes:
            raise self._full()

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

    def __init__(self, budget: UploadBudget):
        self._budget = budget
        self._open = True
        self.bytes = 0
        budget.count += 1

    def grow(self, count: int) -> None:
        """`count` more bytes have come. Raises RequestError when they are too many."""
        if self.bytes + count > self._budget.limits.message_bytes:
            raise self._budget.too_large(f"more than {self.bytes} bytes")
        self._budget.check_room(count)
        self.bytes += count
        self._budget.bytes += count

    def release(self) -> None:
        if self._open:
            self._open = False
            self._budget.count -= 1
            self._budget.bytes -= self.bytes

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
