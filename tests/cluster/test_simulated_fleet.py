"""The simulated fleet beside three real servers that are asked in the same way."""

import asyncio

from deploy.cluster import Cluster
from perf.fleet_check import SERVERS, Asked, Driver
from perf.fleet_queue import Demand, simulate


def test_simulation_and_servers_know_the_same_part_of_the_clips(cluster: Cluster) -> None:
    """Waiting times depend on what else the machine does: `python -m perf.fleet_check` compares those."""
    driver = Driver(cluster, Asked(audio_s=1.0, tokens=4), first_clip=50_000)
    demand = Demand(questions=3.0, think_s=0.5)

    async def both() -> tuple[float, float, int]:
        service = await driver.alone()
        assert service.prefill_s > 0 < service.decode_s
        rate = 0.2 / (service.encode_s + service.prefill_s + service.decode_s)
        real = await driver.under_load(rate, max(20.0, 200 / rate), demand, seed=1)
        return real.hits, simulate(service, SERVERS, rate, 20_000, demand, "affinity").hits, len(real.wait_s)

    measured, simulated, counted = asyncio.run(both())
    print(f"hits: {measured:.0%} of {counted} measured, {simulated:.0%} simulated")
    assert counted > 60
    assert abs(measured - simulated) <= 0.1
