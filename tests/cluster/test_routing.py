"""Routing through a real Envoy to three real servers: affinity, a killed server, a rolling restart under load."""

import json
import urllib.request

import grpc

from deploy.cluster import Cluster
from deploy.envoy import HOST
from deploy.loopback import wait_for
from tests.support.clips import clip
from tests.support.cluster_traffic import HITS, MISSES, ask, counted, failures, home, lost, traffic


def test_every_protocol_passes(cluster: Cluster) -> None:
    assert ask(cluster, clip(0.5, seed=1))
    body = json.dumps({"prompt": "Hello", "max_tokens": 4, "id": "1"}).encode()
    path = f"http://{HOST}:{cluster.ports.http}/v2/models/audio_flamingo/generate_stream"
    request = urllib.request.Request(path, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        events = [line for line in reply.read().decode().splitlines() if line.startswith("data:")]
    assert events
    assert json.loads(events[-1][5:])["finish_reason"] in ("stop", "length")


def ask_alone(cluster: Cluster, file: bytes, prompt: str = "What is it?") -> list[int]:
    """With nothing in flight, not even an answer whose end Envoy has not seen: nothing is passed to another."""
    assert wait_for(cluster.idle, 30)
    return ask(cluster, file, prompt)


def test_a_clip_asked_about_again_lands_where_it_was_heard(cluster: Cluster) -> None:
    clips = [clip(0.5, seed=1000 + number) for number in range(30)]
    first = [ask_alone(cluster, one) for one in clips]
    heard = [(counted(server, HITS), counted(server, MISSES)) for server in cluster.servers]
    assert sum(missed > 0 for _, missed in heard) == 3  # all three have work
    again = [ask_alone(cluster, one, "And now?") for one in clips]
    hits = sum(counted(server, HITS) - old for server, (old, _) in zip(cluster.servers, heard, strict=True))
    misses = sum(
        counted(server, MISSES) - old for server, (_, old) in zip(cluster.servers, heard, strict=True)
    )
    print(f"hits {hits:.0f}, misses {misses:.0f}")
    assert hits / (hits + misses) >= 0.95
    assert all(first) and all(again)


def test_without_affinity_a_third_lands_where_it_was_heard(cluster: Cluster) -> None:
    """What the test above is worth: the same with keys that have nothing to do with the clips."""
    clips = [clip(0.5, seed=2000 + number) for number in range(60)]
    for number, one in enumerate(clips):
        ask(cluster, one, key=f"first-{number}")
    before = [(counted(server, HITS), counted(server, MISSES)) for server in cluster.servers]
    for number, one in enumerate(clips):
        ask(cluster, one, "And now?", key=f"again-{number}")
    after = [(counted(server, HITS), counted(server, MISSES)) for server in cluster.servers]
    hits, misses = (
        sum(now[place] - old[place] for now, old in zip(after, before, strict=True)) for place in (0, 1)
    )
    print(f"hits {hits:.0f}, misses {misses:.0f}")
    assert 0.1 <= hits / (hits + misses) <= 0.6  # of 60 with a chance of 1/3: outside once in 10 000 runs


def test_a_killed_server_costs_only_its_own_streams_and_keys_come_home(cluster: Cluster) -> None:
    keys = [f"key-{number}" for number in range(40)]
    before = {key: home(cluster, key) for key in keys}
    victim = cluster.servers[0]
    with traffic(cluster, 3) as outcomes:
        assert wait_for(lambda: len(outcomes) > 10, 60)
        victim.kill()
        known = len(outcomes)
        assert wait_for(lambda: len(outcomes) > known + 30, 120)
    failed = failures(outcomes)
    print(f"{len(outcomes)} asked, {len(failed)} failed: {[str(error)[:80] for error in failed]}")
    assert len(failed) <= 3  # at most one stream a client was at the killed server
    for error in failed:
        assert isinstance(error, grpc.RpcError)
        assert lost(error), error
    assert wait_for(lambda: cluster.stats()["cluster.servers-grpc.membership_healthy"] == 2, 30)
    others = [key for key in keys if before[key] != 0]
    moved = sum(home(cluster, key) != before[key] for key in others)
    print(f"{moved} of {len(others)} keys of living servers moved")
    assert moved <= 0.1 * len(others)  # test_moved_keys.py counts how many keys move in all
    victim.start()
    victim.wait_until_ready()
    assert wait_for(lambda: all(home(cluster, key) == before[key] for key in keys), 60)


def test_a_rolling_restart_under_load_fails_nobody(cluster: Cluster) -> None:
    with traffic(cluster, 2) as outcomes:
        for server in cluster.servers:
            cluster.restart(server)
            known = len(outcomes)
            assert wait_for(lambda known=known: len(outcomes) > known + 4, 60)
    print(f"{len(outcomes)} asked, {len(failures(outcomes))} failed")
    assert not [str(error)[:200] for error in failures(outcomes)]
