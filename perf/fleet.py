"""Simulates the cost of an hour of audio on 1, 10, 100 and 1 000 GPUs: python -m perf.fleet --gpu h100 --price 2.5

Servers stand behind a proxy that sends a clip to the server that has heard it. Stage times come from `perf.roofline`
and were never measured on a GPU. Clients arrive at random and ask several questions about a clip, with pauses. For each
fleet size, the load is the highest at which 95 % of first tokens are in time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from build_engines.targets import TARGETS
from perf.fleet_queue import Demand, Outcome, Routing, Service, simulate
from perf.report import table
from perf.roofline import GPUS, PROMPT_TABLE_ROW_BYTES, Gpu, Parts, Traffic, predict

SIZES = (1, 10, 100, 1000)
HALVINGS = 6
LARGE = 1000  # servers, from which on the search begins where the size before ended
NEAR, NEAR_HALVINGS = 0.25, 4  # of that rate; as fine as the others: 1/64 of the most
ROUNDS = 2
CACHE_MIB = 256  # as in model_repository/audio_encoder/configs/gpu.pbtxt
ROUTINGS: tuple[Routing, ...] = ("affinity", "random")


def most_carried(
    service: Service,
    servers: int,
    wait_s: float,
    demand: Demand,
    routing: Routing = "affinity",
    near: float = 0.0,
) -> tuple[float, Outcome]:
    """Find the highest requests/s per server at which 95 % of first tokens come within `wait_s`.

    near: what a smaller fleet carries per server; it is looked for there first, since a large fleet takes long.
    """
    most = service.slots / (service.prefill_s + service.decode_s)
    # Twice as long as a client stays with one clip; in a shorter run no client would return to a cached clip.
    visit_s = demand.questions * (demand.think_s + service.decode_s)
    requests = max(4000, int(2 * visit_s * most * servers))

    def search(low: float, high: float, halvings: int) -> tuple[float, float, Outcome | None]:
        best: Outcome | None = None
        for _ in range(halvings):
            rate = (low + high) / 2
            found = simulate(service, servers, rate * servers, requests, demand, routing)
            if found.percentile(0.95) <= wait_s:
                low, best = rate, found
            else:
                high = rate
        return low, high, best

    if near:
        first, last = (1 - NEAR) * near, min(most, (1 + NEAR) * near)
        low, high, best = search(first, last, NEAR_HALVINGS)
        if best is not None and high < last:
            return low, best
    low, _, best = search(0.0, most, HALVINGS)
    return low, best or simulate(service, servers, 0.01 * most * servers, requests, demand, routing)


def service_of(gpu: Gpu, target: str, traffic: Traffic, hits: float, cache_mib: int) -> Service:
    """Build a Service from `perf.roofline`; encoder and prefill of other requests slow a decode down."""
    limits, rows = TARGETS[target].limits, TARGETS[target].prompt_table_rows
    assumed = Traffic(traffic.audio_s, traffic.text_tokens, traffic.output_tokens, hits)
    found = predict(gpu, TARGETS[target].llm_precision, limits.max_batch_size, assumed, rows)
    encode_s = traffic.encoder_flop / (gpu.bf16_flop_s * Parts().arithmetic)
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
    gpu: str,
    traffic: Traffic,
    demand: Demand,
    servers: int,
    wait_s: float,
    cache_mib: int,
    routing: Routing,
    smaller: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Return requests/s per server and the hit rate. Cached clips cost no encoder time, so the hit rate is iterated.

    smaller: both of a smaller fleet of many servers, from which this one differs little.
    """
    rate, hits = smaller or (0.0, 0.5)
    for _ in range(ROUNDS if smaller is None else 1):
        service = service_of(GPUS[gpu], gpu, traffic, hits, cache_mib)
        rate, found = most_carried(service, servers, wait_s, demand, routing, near=rate)
        hits = found.hits
    return rate, hits


def draw(rows: Sequence[tuple[int, float, float]], audio_s: float, path: Path) -> None:
    """Plot rows of (servers, cost per audio hour with affinity, without)."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "fleet"  # the same figures, the same file
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
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
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
    smaller: dict[Routing, tuple[float, float]] = {}
    for servers in SIZES:
        row, cost = [f"{servers:,}".replace(",", " ")], []
        for routing in ROUTINGS:
            rate, hits = carried(
                given.gpu,
                traffic,
                demand,
                servers,
                given.first_token,
                given.cache_mib,
                routing,
                smaller.get(routing) if servers >= LARGE else None,
            )
            smaller[routing] = rate, hits
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
