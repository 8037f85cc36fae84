"""The simulation of `perf.fleet` against three real servers behind Envoy: python -m perf.fleet_check

The times of the stages are measured on the servers while nobody else asks; then clients come at random at several
rates, as the simulation has them, and both say how many clips were known and how long the first token took. Here all
servers share the cores of one machine, which the simulation does not know: where the two part, that shows.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clients import AsyncAudioFlamingo
from deploy.cluster import Cluster
from deploy.envoy import HOST
from perf import traffic
from perf.fleet_queue import Demand, Outcome, Service, simulate
from perf.report import table

SERVERS = 3
PARTS = (0.1, 0.2, 0.4)  # of what one server would carry if it did nothing at once
ALONE = 12  # questions by which the stages are measured
WARM_PART = 0.25  # of a run that is not counted
SLOTS = 8  # model_repository/llm/configs/cpu.pbtxt
HITS, MISSES = "af3_embedding_cache_hits", "af3_embedding_cache_misses"
SIMULATED = 20_000
FEWEST = 20  # answers of which a twentieth is one


@dataclass(frozen=True)
class Asked:
    """What every question is like. tokens: of an answer, at most."""

    audio_s: float = 5.0
    tokens: int = 32


@dataclass(frozen=True)
class Timed:
    """Seconds after the question was sent: the first token, the end. at_s: when it was sent, since the run began."""

    at_s: float
    first_s: float
    whole_s: float


class Driver:
    """Questions to a cluster, through its Envoy. A clip of any number is unlike every other."""

    def __init__(self, cluster: Cluster, asked: Asked, first_clip: int = 0):
        self._cluster = cluster
        self._asked = asked
        self._clip = first_clip

    async def alone(self) -> Service:
        """The stages of a server that has one question at a time."""
        fresh, known = [], []
        async with self._client() as flamingo:
            for _ in range(ALONE):
                clip = self._new_clip()
                fresh.append(await self._ask(flamingo, clip, 0.0))
                known.append(await self._ask(flamingo, clip, 0.0))
        prefill_s = statistics.median(one.first_s for one in known)
        encode_s = max(0.0, statistics.median(one.first_s for one in fresh) - prefill_s)
        decode_s = statistics.median(one.whole_s - one.first_s for one in (*fresh, *known))
        return Service(encode_s, prefill_s, decode_s, SLOTS, cached_clips=10_000)

    async def under_load(self, requests_per_s: float, seconds: float, demand: Demand, seed: int) -> Outcome:
        """Clients that come at random and ask several times, as `perf.fleet.simulate` has them; for so long."""
        chance = random.Random(seed)
        found: list[Timed] = []
        began_s = time.monotonic()
        warm_s = WARM_PART * seconds
        async with self._client() as flamingo:

            async def client(clip: bytes, thoughts_s: Sequence[float]) -> None:
                for think_s in (0.0, *thoughts_s):
                    await asyncio.sleep(think_s)
                    found.append(await self._ask(flamingo, clip, began_s))

            clients: list[asyncio.Task[None]] = []
            before: tuple[float, float] | None = None
            while (now_s := time.monotonic() - began_s) < seconds:
                if before is None and now_s >= warm_s:
                    before = self._known()
                thoughts_s = []
                while chance.random() < 1 - 1 / demand.questions:
                    thoughts_s.append(chance.expovariate(1 / demand.think_s))
                clients.append(asyncio.create_task(client(self._new_clip(), thoughts_s)))
                await asyncio.sleep(chance.expovariate(requests_per_s / demand.questions))
            after = self._known()
            await asyncio.gather(*clients)  # no new ones come: what they ask from here on is not counted
        hits, misses = (now - old for now, old in zip(after, before or (0.0, 0.0), strict=True))
        counted = sorted(one.first_s for one in found if warm_s <= one.at_s <= seconds)
        return Outcome(counted, hits / max(1.0, hits + misses))

    def _client(self) -> AsyncAudioFlamingo:
        return AsyncAudioFlamingo(f"{HOST}:{self._cluster.ports.grpc}")

    async def _ask(self, flamingo: AsyncAudioFlamingo, clip: bytes, began_s: float) -> Timed:
        sent_s, first_s = time.monotonic(), None
        async with flamingo.ask(
            clip, "count", max_tokens=self._asked.tokens, repetition_penalty=1.5
        ) as answer:
            async for delta in answer:
                if first_s is None and delta.token_ids:
                    first_s = time.monotonic() - sent_s
        whole_s = time.monotonic() - sent_s
        return Timed(sent_s - began_s, whole_s if first_s is None else first_s, whole_s)

    def _new_clip(self) -> bytes:
        self._clip += 1
        return traffic.clip(self._asked.audio_s, self._clip)

    def _known(self) -> tuple[float, float]:
        """Clips that the servers knew so far, and those that they did not."""
        metrics = [server.metrics() for server in self._cluster.servers]
        hits, misses = (
            sum(one.get(name, one.get(f"{name}_total", 0.0)) for one in metrics) for name in (HITS, MISSES)
        )
        return hits, misses


def row(part: float, rate: float, real: Outcome, simulated: Outcome) -> list[str]:
    cells = [f"{part:.0%}", f"{rate:.2f}", str(len(real.wait_s)), f"{real.hits:.0%}", f"{simulated.hits:.0%}"]
    for percentile in (0.5, 0.95):
        measured, predicted = real.percentile(percentile), simulated.percentile(percentile)
        cells += [f"{1000 * measured:.0f}", f"{1000 * predicted:.0f}", f"{predicted / measured - 1:+.0%}"]
    return cells


HEAD = [
    *("load", "requests/s", "counted", "hits", "simulated"),
    *("first token p50, ms", "simulated", "off by", "p95, ms", "simulated", "off by"),
]


async def compare(driver: Driver, seconds: float, demand: Demand, parts: Sequence[float] = PARTS) -> str:
    """Markdown: the stages, then a row a load."""
    service = await driver.alone()
    most = 1 / (service.encode_s + service.prefill_s + service.decode_s)
    rows = []
    for number, part in enumerate(parts):
        real = await driver.under_load(part * most, seconds, demand, seed=number)
        if len(real.wait_s) < FEWEST:
            continue
        found = simulate(service, SERVERS, part * most, SIMULATED, demand, "affinity")
        rows.append(row(part, part * most, real, found))
    return (
        f"alone: encoder {1000 * service.encode_s:.0f} ms, prefill and the way {1000 * service.prefill_s:.0f} ms,"
        f" decoding {1000 * service.decode_s:.0f} ms\n\n" + table(HEAD, rows)
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="folder that holds engines/")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each load (default: %(default)s)")
    parser.add_argument("--audio", type=float, default=5.0, help="seconds of a clip (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer (default: %(default)s)")
    parser.add_argument("--think", type=float, default=2.0, help="s between questions (default: %(default)s)")
    given = parser.parse_args()
    with Cluster(SERVERS, given.folder) as cluster:
        driver = Driver(cluster, Asked(given.audio, given.tokens))
        print(asyncio.run(compare(driver, given.seconds, Demand(think_s=given.think))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
