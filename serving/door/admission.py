"""Who may come in: a server that is ready, and a bounded number of requests in flight."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from af3.errors import Full, RequestError

RESTART_S = 5  # what a client is told to wait while the server starts or shuts down
SMOOTHING = 0.1  # weight of the newest answer in the mean duration


@dataclass(frozen=True)
class Limits:
    """What one server accepts.

    in_flight: requests at once, waiting ones included; a few less than the LLM's slots and queue, so that
        the server's own probes find room.
    timeout_s: the longest a request may take; the default of requests that name no time of their own.
    message_bytes: the largest request. Ten minutes of 48 kHz stereo are 115 MB.
    upload_bytes: all requests together that are being received or sent on to Triton.
    """

    in_flight: int = 64
    timeout_s: float = 600.0
    message_bytes: int = 128 << 20
    upload_bytes: int = 1 << 30

    @property
    def uploads(self) -> int:
        """Requests that may be received at once over HTTP."""
        return 4 * self.in_flight


DEFAULT_LIMITS = Limits()


class Slot:
    """A place among the requests in flight. Release it once; a second time does nothing."""

    def __init__(self, admission: Admission):
        self._admission: Admission | None = admission
        self._since_s = admission.now()

    def release(self) -> None:
        if self._admission is not None:
            admission, self._admission = self._admission, None
            admission.released(self, admission.now() - self._since_s)


class Admission:
    """Counts requests in flight. For one event loop: only its public attributes may be read by other threads."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic):
        self.limits = limits
        self.ready = False
        self.draining = False
        self.alive = True  # False while the server cannot be started at all: replace the whole container
        self.suspicious = False  # Triton failed a request: the supervisor should probe it now
        self.now = clock
        self.seen_at = clock()  # when Triton last sent a response
        self._slots: set[Slot] = set()
        self._mean_s = 1.0

    @property
    def in_flight(self) -> int:
        return len(self._slots)

    @property
    def serving(self) -> bool:
        return self.ready and not self.draining

    def check(self) -> None:
        """Raise RequestError when a request would be refused now, whatever it asks."""
        if not self.serving:
            why = "is shutting down" if self.draining else "is starting"
            raise RequestError(
                "UNAVAILABLE", f"the server {why}; try again in {RESTART_S} s", retry_s=RESTART_S
            )
        if self.in_flight >= self.limits.in_flight:
            retry_s = self.retry_s()
            raise Full(
                f"{self.in_flight} requests are in flight, the most that are accepted;"
                f" try again in {retry_s} s",
                retry_s,
            )

    def enter(self) -> Slot:
        """Take a slot. Raises RequestError as `check` does."""
        self.check()
        slot = Slot(self)
        self._slots.add(slot)
        return slot

    def released(self, slot: Slot, seconds: float) -> None:
        """Called by `Slot.release` alone."""
        self._slots.discard(slot)
        self._mean_s += SMOOTHING * (seconds - self._mean_s)

    def retry_s(self) -> int:
        """Whole seconds after which an eighth of the requests in flight will have ended, at the mean pace."""
        return max(1, math.ceil(self._mean_s / 8))
