"""The simulated fleet against what queueing theory says, and what must hold whatever the numbers are."""

import re
from pathlib import Path

import pytest

from perf.fleet import CACHE_MIB, most_carried
from perf.fleet_queue import Demand, Service, home_of, simulate

ONCE = Demand(questions=1.0)


def test_one_server_that_decodes_at_once_is_the_queue_of_the_textbook() -> None:
    """M/D/1: the mean wait is rho / (2 (1 - rho)) services, and the own service on top."""
    service = Service(encode_s=0.0, prefill_s=1.0, decode_s=0.0, slots=10_000, cached_clips=1)
    for rho in (0.3, 0.6, 0.8):
        found = simulate(service, 1, rho, 60_000, ONCE, "affinity")
        mean = sum(found.wait_s) / len(found.wait_s)
        assert mean == pytest.approx(1 + rho / (2 * (1 - rho)), rel=0.08)


def test_requests_wait_while_all_slots_are_taken() -> None:
    """Four slots of ten seconds carry 0.4 requests/s: at a little more the wait grows without end."""
    service = Service(0.0, 0.001, 10.0, slots=4, cached_clips=1)
    carried = simulate(service, 1, 0.2, 5000, ONCE, "affinity").percentile(0.5)
    drowned = simulate(service, 1, 0.5, 5000, ONCE, "affinity").percentile(0.5)
    assert carried < 10 < 100 < drowned


def test_a_clip_asked_about_again_is_known_where_it_is_sent_and_half_as_often_anywhere() -> None:
    """The same as real servers behind Envoy: tests/cluster/test_keys.py measures both."""
    service = Service(0.1, 0.01, 0.1, slots=64, cached_clips=10_000)
    twice = Demand(questions=2.0, think_s=5.0)
    kept, lost = (
        simulate(service, 3, 0.1, 20_000, twice, routing).hits for routing in ("affinity", "random")
    )
    # Half of the questions are the first about their clip; few enough come that the bound never sends one elsewhere.
    assert kept == pytest.approx(0.5, abs=0.04)
    assert lost == pytest.approx(0.25, abs=0.03)  # the k-th question is known with 1 - (2/3)^(k-1)


@pytest.mark.parametrize("servers", [3, 10, 100, 1000])
def test_clips_are_spread_as_by_chance_and_not_in_turn(servers: int) -> None:
    """In turn every server would have the same, and a fleet would seem to carry more than it does."""
    counts = [0] * servers
    for clip in range(50 * servers):
        counts[home_of(clip, servers)] += 1
    variance = sum((count - 50) ** 2 for count in counts) / servers
    low, high = (0.5, 2.0) if servers >= 100 else (0.02, 4.0)
    assert low <= variance / 50 <= high  # 1 for Poisson's


def test_a_cache_that_is_too_small_keeps_nothing() -> None:
    service = Service(0.1, 0.01, 0.1, slots=64, cached_clips=1)
    assert simulate(service, 1, 5.0, 5000, Demand(3.0, 20.0), "affinity").hits < 0.1


def test_a_large_fleet_carries_no_less_a_server_and_affinity_no_less_than_chance() -> None:
    service = Service(0.3, 0.1, 2.0, slots=16, cached_clips=64)
    demand = Demand()
    (one, _), (many, _) = (most_carried(service, servers, 1.0, demand) for servers in (1, 30))
    (anywhere, _) = most_carried(service, 30, 1.0, demand, "random")
    assert 0 < one <= many * 1.1
    assert anywhere < many


@pytest.mark.parametrize("near", [1.0, 0.1, 10.0])
def test_a_search_that_begins_near_the_answer_or_far_from_it_ends_there(near: float) -> None:
    service = Service(0.3, 0.1, 2.0, slots=16, cached_clips=64)
    whole, _ = most_carried(service, 10, 1.0, Demand())
    found, _ = most_carried(service, 10, 1.0, Demand(), near=near * whole)
    assert found == pytest.approx(whole, rel=0.05)


def test_the_cache_is_as_large_as_the_servers_own() -> None:
    configs = Path(__file__).parents[3] / "model_repository" / "audio_encoder" / "configs"
    found = re.search(
        r'embedding_cache_mib" value: \{ string_value: "(\d+)"', (configs / "gpu.pbtxt").read_text()
    )
    assert found is not None
    assert int(found[1]) == CACHE_MIB
