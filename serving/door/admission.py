"""Admits requests while the server is ready, up to a limit, and shares the places fairly among callers."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from af3.errors import Full, RequestError
from serving.door.caller import Caller, current_caller
from serving.door.triton_errors import gives_up_a_step

RESTART_S = 5  # what a client is told to wait while the server starts or shuts down
SMOOTHING = 0.1  # weight of the newest answer in the mean duration
TOKEN_S = 0.01  # a request that asks for a token more is due so much later


@dataclass(frozen=True)
class Limits:
    """The limits of one server.

    in_flight: requests at once, waiting ones included; a few less than the LLM's slots and queue, so that
        the server's own probes find room.
    timeout_s: the longest a request may take; the default of requests that name no time of their own.
    message_bytes: the largest request. Ten minutes of 48 kHz stereo are 115 MB.
    upload_bytes: all requests together that are being received or sent on to Triton.
    at_triton: requests in flight that Triton may have; the others wait in the door, where each caller has a queue of
        its own. None: all, first come, first served.
    connections_of_address: over each protocol; None: half of all there may be.
    clip_store_bytes: clips that are kept to be named later; 0 keeps none.
    for_newcomers: requests beyond `at_triton` that Triton may have of callers with less than an equal share of it.
    decoding: long requests (`request_cost`) that Triton may have before their clips are decoded, one less than it has
        processes for that: a short request never waits for the decoding of others' long clips. None: any number.
    """

    in_flight: int = 64
    timeout_s: float = 600.0
    message_bytes: int = 128 << 20
    upload_bytes: int = 1 << 30
    at_triton: int | None = None
    connections_of_address: int | None = None
    clip_store_bytes: int = 256 << 20
    for_newcomers: int = 0
    decoding: int | None = None

    @property
    def uploads(self) -> int:
        """Requests that may be received at once over HTTP."""
        return 4 * self.in_flight


DEFAULT_LIMITS = Limits()


class Slot:
    """A place among the requests in flight. Release it once; a second time does nothing."""

    def __init__(self, admission: Admission, caller: Caller, long: bool, due_s: float):
        self.caller = caller
        self.long = long
        self.due_s = due_s
        self._admission: Admission | None = admission
        self._since_s = admission.now()
        self._turn = asyncio.Event()
        self._on_evicted: Callable[[RequestError], None] | None = None

    @property
    def waiting(self) -> bool:
        """It is not this request's turn yet: Triton does not have it."""
        return not self._turn.is_set()

    async def turn(self) -> None:
        """Wait until the request may go to Triton."""
        await self._turn.wait()

    def on_evicted(self, callback: Callable[[RequestError], None]) -> None:
        """Called when a request that waits must make room for another caller; `callback` releases the slot, soon."""
        self._on_evicted = callback

    def decoded(self) -> None:
        """Its clips have been decoded, or refused. A second time does nothing."""
        if self.long and self._admission is not None:
            self._admission.decoded(self)

    def release(self) -> None:
        if self._admission is not None:
            admission, self._admission = self._admission, None
            admission.released(self, admission.now() - self._since_s)

    def go(self) -> None:
        """Called by Admission alone."""
        self._turn.set()

    def evict(self, error: RequestError) -> None:
        """Called by Admission alone."""
        if self._on_evicted is not None:
            self._on_evicted(error)


class Admission:
    """Counts requests in flight. For one event loop: only its public attributes may be read by other threads.

    Fair by caller, with nothing to configure: of those that wait, the caller with the fewest requests at Triton is
    next, and where others have all places there, it may still have one of those kept for newcomers. Of equals the
    request is next that is due first: a short answer is due sooner than a long one that came with it, and later than
    one that came long before. Long requests that wait for one another's decoding hold none of these places. When the
    server is full, a caller with fewer requests than another takes the place of the other's last one that still waits
    ("longest queue drop"), and of equals the shorter request that of a longer one.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic):
        self.limits = limits
        self.ready = False
        self.draining = False
        self.alive = True  # False while the server cannot be started at all: replace the whole container
        self.suspicious = False  # Triton failed a request: the supervisor should probe it now
        # Triton gave up a step that may yet answer: what it sends may be another request's, until it is replaced.
        self.lost_step = False
        self.now = clock
        self.seen_at = clock()  # when Triton last sent a response
        self._slots: dict[Slot, None] = {}  # oldest first
        self._held: Counter[Caller] = Counter()
        self._at_triton: Counter[Caller] = Counter()
        self._decoding: set[Slot] = set()
        self._mean_s = 1.0

    def distrusts(self, message: bytes) -> bool:
        """Whether Triton has given up a step, in this response of a stream or an earlier one."""
        self.lost_step |= gives_up_a_step(message)
        return self.lost_step

    @property
    def in_flight(self) -> int:
        return len(self._slots)

    @property
    def serving(self) -> bool:
        return self.ready and not self.draining

    def check(self, caller: Caller | None = None, tokens: int = 0) -> None:
        """Raise RequestError when a request for so many tokens would be refused now. `caller`: that of the context."""
        caller = caller or current_caller()
        if not self.serving:
            why = "is shutting down" if self.draining else "is starting"
            raise RequestError(
                "UNAVAILABLE", f"the server {why}; try again in {RESTART_S} s", retry_s=RESTART_S
            )
        caller.check(self._held[caller], self.now())
        if self.in_flight >= self.limits.in_flight and self._evictable(caller, self._due_s(tokens)) is None:
            raise self._full()

    def enter(self, caller: Caller | None = None, long: bool = False, tokens: int = 0) -> Slot:
        """Take a slot. Raises RequestError as `check` does.

        long: short requests must not wait for its decoding. tokens: the longest answer that it asks for.
        """
        caller, due_s = caller or current_caller(), self._due_s(tokens)
        self.check(caller, tokens)
        if self.in_flight >= self.limits.in_flight and (victim := self._evictable(caller, due_s)) is not None:
            victim.evict(self._full())
            victim.release()
        caller.take_request(self.now())
        slot = Slot(self, caller, long, due_s)
        self._slots[slot] = None
        self._held[caller] += 1
        self._send_next()
        return slot

    def released(self, slot: Slot, seconds: float) -> None:
        """Called by `Slot.release` alone."""
        del self._slots[slot]
        self._decoding.discard(slot)
        _count_down(self._held, slot.caller)
        if not slot.waiting:
            _count_down(self._at_triton, slot.caller)
            self._mean_s += SMOOTHING * (seconds - self._mean_s)
        self._send_next()

    def decoded(self, slot: Slot) -> None:
        """Called by `Slot.decoded` alone, with every response."""
        if slot in self._decoding:
            self._decoding.remove(slot)
            self._send_next()

    def retry_s(self) -> int:
        """Whole seconds after which an eighth of the requests in flight will have ended, at the mean pace."""
        return max(1, math.ceil(self._mean_s / 8))

    def _send_next(self) -> None:
        """Give turns while Triton may have more."""
        while waiting := [slot for slot in self._slots if slot.waiting and self._may_decode(slot)]:
            chosen = min(waiting, key=lambda slot: (self._at_triton[slot.caller], slot.due_s))
            if not self._has_room_for(chosen.caller):
                return  # nor has it for those with more
            self._at_triton[chosen.caller] += 1
            if chosen.long:
                self._decoding.add(chosen)
            chosen.go()

    def _may_decode(self, slot: Slot) -> bool:
        most = self.limits.decoding
        return not slot.long or most is None or len(self._decoding) < most

    def _has_room_for(self, caller: Caller) -> bool:
        most = self.limits.in_flight if self.limits.at_triton is None else self.limits.at_triton
        taken, share = self._at_triton.total(), max(1, most // len(self._held))
        newcomer = self._at_triton[caller] < share
        return taken < most + (self.limits.for_newcomers if newcomer else 0)

    def _evictable(self, caller: Caller, due_s: float) -> Slot | None:
        """The request that waits and is due last of who has most in flight, if that comes after one of `caller` now."""

        def place(slot: Slot) -> tuple[int, float]:
            return self._held[slot.caller], slot.due_s

        waiting = [slot for slot in self._slots if slot.waiting and slot.caller is not caller]
        found = max(reversed(waiting), key=place, default=None)
        return found if found and place(found) > (self._held[caller] + 1, due_s) else None

    def _due_s(self, tokens: int) -> float:
        return self.now() + tokens * TOKEN_S

    def _full(self) -> Full:
        retry_s = self.retry_s()
        return Full(
            f"{self.in_flight} requests are in flight, the most that are accepted; try again in {retry_s} s",
            retry_s,
        )


def _count_down(counts: Counter[Caller], caller: Caller) -> None:
    """Counts of 0 are not kept: callers come and go."""
    counts[caller] -= 1
    if not counts[caller]:
        del counts[caller]
