"""Servers behind a proxy as a queueing model: encoder and prefill one request at a time, then a slot for its tokens."""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

BALANCE_PERCENT = 150  # deploy/chart's balanceFactor: what a server may have, relative to the mean
SEED = 0
Routing = Literal["affinity", "random"]


@dataclass(frozen=True)
class Service:
    """One server. encode_s, prefill_s: per request, run one at a time; decode_s: a whole answer's decode in a full
    batch; slots: concurrent answers; cached_clips: clips whose embeddings it keeps.
    """

    encode_s: float
    prefill_s: float
    decode_s: float
    slots: int
    cached_clips: int


@dataclass(frozen=True)
class Demand:
    """questions: mean number about one clip; think_s: mean pause between them."""

    questions: float = 3.0
    think_s: float = 20.0


@dataclass(frozen=True)
class Outcome:
    """wait_s: each request's wait for its first token, sorted."""

    wait_s: Sequence[float]
    hits: float

    def percentile(self, part: float) -> float:
        return self.wait_s[min(len(self.wait_s) - 1, int(part * len(self.wait_s)))]


class _Server:
    def __init__(self, service: Service):
        self._service = service
        self._own_until_s = 0.0  # encoder and prefill are busy until then
        self._ends_s: list[float] = []  # a heap: ends of all answers in flight, including waiting ones
        self._slots_s: list[float] = []  # a heap: when each used slot becomes free
        self._clips: OrderedDict[int, None] = OrderedDict()

    def in_flight(self, now_s: float) -> int:
        while self._ends_s and self._ends_s[0] <= now_s:
            heapq.heappop(self._ends_s)
        return len(self._ends_s)

    def answer(self, now_s: float, clip: int) -> tuple[float, bool]:
        """Answer a request; returns seconds to the first token and whether the clip was cached."""
        service, known = self._service, clip in self._clips
        start_s = max(now_s, self._own_until_s)
        full = len(self._slots_s) >= service.slots
        if full:
            start_s = max(start_s, self._slots_s[0])
        first_s = start_s + service.prefill_s + (0.0 if known else service.encode_s)
        self._own_until_s = first_s
        end_s = first_s + service.decode_s
        if full:
            heapq.heapreplace(self._slots_s, end_s)
        else:
            heapq.heappush(self._slots_s, end_s)
        heapq.heappush(self._ends_s, end_s)
        self._clips[clip] = None
        self._clips.move_to_end(clip)
        if len(self._clips) > service.cached_clips:
            self._clips.popitem(last=False)
        return first_s - now_s, known


def simulate(
    service: Service,
    servers: int,
    requests_per_s: float,
    requests: int,
    demand: Demand,
    routing: Routing,
    seed: int = SEED,
) -> Outcome:
    """Simulate `requests` at a total rate over `servers`; the first fifth is warm-up and is not counted."""
    chance = random.Random(seed)
    fleet = [_Server(service) for _ in range(servers)]
    again = 1 - 1 / demand.questions
    arrivals: list[tuple[float, int]] = []  # a heap of (time, clip)
    next_new_s, clips, in_flight = 0.0, 0, 0
    ends_s: list[float] = []
    waits: list[float] = []
    known_count = 0
    warm = requests // 5
    for number in range(requests):
        if not arrivals or next_new_s <= arrivals[0][0]:
            now_s, clip = next_new_s, clips
            clips += 1
            next_new_s += chance.expovariate(requests_per_s / demand.questions)
        else:
            now_s, clip = heapq.heappop(arrivals)
        while ends_s and ends_s[0] <= now_s:
            heapq.heappop(ends_s)
        in_flight = len(ends_s)
        place = _place(fleet, now_s, clip, in_flight, routing, chance)
        wait_s, known = fleet[place].answer(now_s, clip)
        heapq.heappush(ends_s, now_s + wait_s + service.decode_s)
        if number >= warm:
            waits.append(wait_s)
            known_count += known
        if chance.random() < again:
            back_s = now_s + wait_s + service.decode_s + chance.expovariate(1 / demand.think_s)
            heapq.heappush(arrivals, (back_s, clip))
    return Outcome(sorted(waits), known_count / len(waits))


def home_of(clip: int, servers: int, choice: int = 0) -> int:
    """Where a hash puts a clip: as if by chance, so that some servers have more clips than others.

    choice: the first is its home, the others are where it goes when those before have too much.
    """
    digest = hashlib.blake2b(
        clip.to_bytes(8, "little") + choice.to_bytes(4, "little"), digest_size=8
    ).digest()
    return int.from_bytes(digest, "little") % servers


def passed_over_above(in_flight: int, servers: int) -> int:
    """With how many requests a server is still given one more, as Envoy counts; `in_flight`: of all servers together.

    `BoundedLoadHashingLoadBalancer` in Envoy's thread_aware_lb_impl.cc: the mean with the new request, times the
    factor, rounded up to a whole number. tests/cluster/test_bound.py compares both.
    """
    slots = ((in_flight + 1) * BALANCE_PERCENT + 99) // 100
    return max(1, math.ceil(slots / servers))


def _place(
    fleet: Sequence[_Server], now_s: float, clip: int, in_flight: int, routing: Routing, chance: random.Random
) -> int:
    if routing == "random":
        return chance.randrange(len(fleet))
    most = passed_over_above(in_flight, len(fleet))
    for choice in range(len(fleet)):
        place = home_of(clip, len(fleet), choice)
        if fleet[place].in_flight(now_s) <= most:
            return place
    return min(range(len(fleet)), key=lambda number: fleet[number].in_flight(now_s))
