"""Simulates the cost of an hour of audio on 1, 10, 100 and 1 000 GPUs: python -m perf.fleet --gpu h100 --price 2.5

Servers stand behind a proxy that sends a clip to the server that has heard it. Stage times come from `perf.capacity`'s
roofline and were never measured on a GPU. Clients arrive at random and ask several questions about a clip, with pauses.
For each fleet size, the load is the highest at which 95 % of first tokens are in time.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from build_engines.targets import TARGETS
from perf.capacity import ARITHMETIC_PART, GPUS, PROMPT_TABLE_ROW_BYTES, Gpu, Traffic, predict
from perf.report import table

SIZES = (1, 10, 100, 1000)
BOUND = 1.5  # most requests in flight on one server, relative to the mean; deploy/chart's balanceFactor
HALVINGS = 6
SEED = 0
ROUNDS = 2
SPREAD = 0x9E3779B97F4A7C15  # odd, from the golden ratio: consecutive numbers land far apart
CACHE_MIB = 256  # as in model_repository/audio_encoder/configs/gpu.pbtxt
Routing = Literal["affinity", "random"]
ROUTINGS: tuple[Routing, ...] = ("affinity", "random")


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
    service: Service, servers: int, requests_per_s: float, requests: int, demand: Demand, routing: Routing
) -> Outcome:
    """Simulate `requests` at a total rate over `servers`; the first fifth is warm-up and is not counted."""
    chance = random.Random(SEED)
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


def _place(
    fleet: Sequence[_Server], now_s: float, clip: int, in_flight: int, routing: Routing, chance: random.Random
) -> int:
    if routing == "random":
        return chance.randrange(len(fleet))
    home = (clip * SPREAD % 2**64 >> 32) % len(fleet)
    most = math.ceil(BOUND * (in_flight + 1) / len(fleet))  # as Envoy counts
    for step in range(len(fleet)):
        place = (home + step) % len(fleet)
        if fleet[place].in_flight(now_s) < most:
            return place
    return home


def most_carried(
    service: Service, servers: int, wait_s: float, demand: Demand, routing: Routing = "affinity"
) -> tuple[float, Outcome]:
    """Find the highest requests/s per server at which 95 % of first tokens come within `wait_s`."""
    low, high = 0.0, service.slots / (service.prefill_s + service.decode_s)
    # Twice as long as a client stays with one clip; in a shorter run no client would return to a cached clip.
    visit_s = demand.questions * (demand.think_s + service.decode_s)
    requests = max(4000, int(2 * visit_s * high * servers))
    best = simulate(service, servers, 0.01 * high * servers, requests, demand, routing)
    for _ in range(HALVINGS):
        rate = (low + high) / 2
        found = simulate(service, servers, rate * servers, requests, demand, routing)
        if found.percentile(0.95) <= wait_s:
            low, best = rate, found
        else:
            high = rate
    return low, best


def service_of(gpu: Gpu, target: str, traffic: Traffic, hits: float, cache_mib: int) -> Service:
    """Build a Service from `perf.capacity`'s roofline; encoder and prefill of other requests slow a decode down."""
    limits, rows = TARGETS[target].limits, TARGETS[target].prompt_table_rows
    assumed = Traffic(traffic.audio_s, traffic.text_tokens, traffic.output_tokens, hits)
    found = predict(gpu, TARGETS[target].llm_precision, limits.max_batch_size, assumed, rows)
    encode_s = traffic.encoder_flop / (gpu.bf16_flop_s * ARITHMETIC_PART)
    decode_s = traffic.output_tokens / found.tokens_per_s_each
    clip_bytes = (traffic.prompt_tokens - traffic.text_tokens) * PROMPT_TABLE_ROW_BYTES
    return Service(
        encode_s,
        found.first_token_s - encode_s,
        decode_s,
        found.batch,
        max(1, (cache_mib << 20) // clip_bytes),
    )


def carried(
    gpu: str, traffic: Traffic, demand: Demand, servers: int, wait_s: float, cache_mib: int, routing: Routing
) -> tuple[float, float]:
    """Return requests/s per server and the hit rate. Cached clips cost no encoder time, so the hit rate is iterated."""
    rate, hits = 0.0, 0.5
    for _ in range(ROUNDS):
        service = service_of(GPUS[gpu], gpu, traffic, hits, cache_mib)
        rate, found = most_carried(service, servers, wait_s, demand, routing)
        hits = found.hits
    return rate, hits


def draw(rows: Sequence[tuple[int, float, float]], audio_s: float, path: Path) -> None:
    """Plot rows of (servers, cost per audio hour with affinity, without)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3.2))
    sizes = [size for size, _, _ in rows]
    axis.plot(
        sizes,
        [cost for _, cost, _ in rows],
        marker="o",
        color="#1b4965",
        label="clip affinity",
    )
    axis.plot(sizes, [cost for _, _, cost in rows], marker="s", color="#ca6702", label="any server")
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("GPUs")
    axis.set_ylabel("cost per audio hour")
    axis.set_title(f"simulated: clips of {audio_s:g} s, 95 % of first tokens in time", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpu", choices=sorted(GPUS), default="h100")
    parser.add_argument("--price", type=float, default=2.5, help="money per GPU hour (default: %(default)s)")
    parser.add_argument("--audio", type=float, default=300.0, help="seconds of a clip (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="of an answer (default: %(default)s)")
    parser.add_argument("--questions", type=float, default=3.0, help="about a clip (default: %(default)s)")
    parser.add_argument("--first-token", type=float, default=1.0, help="s for 95 %% (default: %(default)s)")
    parser.add_argument(
        "--cache-mib", type=int, default=CACHE_MIB, help="embeddings kept (default: %(default)s)"
    )
    parser.add_argument("--plot", type=Path, help="SVG or PNG")
    given = parser.parse_args()
    demand, traffic = Demand(given.questions), Traffic(given.audio, 40, given.tokens)
    service = service_of(GPUS[given.gpu], given.gpu, traffic, 0.0, given.cache_mib)
    print(f"Simulated from a roofline; nothing was measured on a GPU. {GPUS[given.gpu].name}:")
    print(
        f"encoder {1000 * service.encode_s:.0f} ms, prefill {1000 * service.prefill_s:.0f} ms,"
        f" {service.slots} at once, {service.cached_clips} clips cached\n"
    )
    costs, rows = [], []
    for servers in SIZES:
        row, cost = [f"{servers:,}".replace(",", " ")], []
        for routing in ROUTINGS:
            rate, hits = carried(
                given.gpu, traffic, demand, servers, given.first_token, given.cache_mib, routing
            )
            cost.append(given.price / (rate * given.audio) if rate else float("inf"))
            row += [f"{rate:.2f}", f"{hits:.0%}", f"{cost[-1]:.4f}"]
        rows.append(row)
        costs.append((servers, cost[0], cost[1]))
    head = ["requests/s a GPU", "hits", "cost an audio hour"]
    print(
        table(
            ["GPUs", *(f"{name}, affinity" for name in head), *(f"{name}, any server" for name in head)], rows
        )
    )
    if given.plot is not None:
        draw(costs, given.audio, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
