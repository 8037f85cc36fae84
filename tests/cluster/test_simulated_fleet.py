"""The simulated fleet beside three real servers that are asked in the same way."""

import asyncio

from deploy.cluster import Cluster
from perf.fleet_check import SERVERS, WARM_PART, Asked, Driver
from perf.fleet_queue import Demand, Routing, Service, simulate

QUESTIONS = 120  # of a run, of which three quarters are counted
RUNS = 200
DEMAND = Demand(questions=3.0, think_s=0.5)


def spread(service: Service, rate: float, counted: int, routing: Routing) -> tuple[float, float]:
    """Fewest and most hits of as many simulated questions: what chance does to so few."""
    hits = [
        simulate(service, SERVERS, rate, counted * 5 // 4, DEMAND, routing, seed).hits for seed in range(RUNS)
    ]
    return min(hits), max(hits)


def test_simulation_and_servers_know_the_same_part_of_the_clips(cluster: Cluster) -> None:
    """Waiting times depend on what else the machine does: `python -m perf.fleet_check` compares those."""
    driver = Driver(cluster, Asked(audio_s=1.0, tokens=4), first_clip=50_000)

    async def measured() -> tuple[Service, float, float, int]:
        service = await driver.alone()
        assert service.prefill_s > 0 < service.decode_s
        rate = 0.4 / (service.encode_s + service.prefill_s + service.decode_s)
        real = await driver.under_load(rate, min(150.0, QUESTIONS / rate), DEMAND, seed=1)
        return service, rate, real.hits, len(real.wait_s)

    service, rate, hits, counted = asyncio.run(measured())
    low, high = spread(service, rate, counted, "affinity")
    by_chance = spread(service, rate, counted, "random")[1]
    print(
        f"hits: {hits:.0%} of {counted} measured, {low:.0%} to {high:.0%} simulated, at most {by_chance:.0%} without"
    )
    assert counted >= WARM_PART * QUESTIONS
    assert low - 0.02 <= hits <= high + 0.02
