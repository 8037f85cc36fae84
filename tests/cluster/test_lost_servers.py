"""Servers that are lost without a word, hang, refuse or are slow: what clients see of it through Envoy."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from clients import AudioFlamingo, ServerNotReachable
from deploy.cluster import Cluster, Member
from deploy.envoy import CONFIG, HOST, Judgement
from deploy.loopback import wait_for
from deploy.proxy import Proxy
from tests.support.clips import clip
from tests.support.cluster_traffic import (
    ANSWERED,
    affinity,
    ask,
    bound,
    counted,
    failures,
    home,
    most_in_flight,
    traffic,
)
from tests.support.refusing_server import RefusingServer
from tests.support.silent_server import SilentServer

EJECTIONS = "cluster.servers-grpc.outlier_detection.ejections_enforced_total"
(FAILURES_IN_A_ROW,) = (  # that eject a server
    int(one["outlier_detection"]["consecutive_gateway_failure"])
    for one in yaml.safe_load(CONFIG.read_text())["static_resources"]["clusters"]
    if one["name"] == "servers-grpc"
)
LONG = {"max_tokens": 1024, "repetition_penalty": 1.5}  # to these the random checkpoint answers to the end


def key_of(cluster: Cluster, place: int) -> str:
    """A key whose home is this server."""
    return next(key for number in range(100) if home(cluster, key := f"find-{number}") == place)


def question_for(cluster: Cluster, place: int, seconds: float = 0.5) -> bytes:
    """A clip that our client's key leads to this server."""
    for number in range(100):
        file = clip(seconds, seed=7000 + number)
        if home(cluster, affinity(file)) == place:
            return file
    raise AssertionError("no clip has its home there")


@contextmanager
def frozen(server: Member) -> Iterator[None]:
    """Its door hangs: connections stay open, nothing is answered."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@contextmanager
def slow(server: Member, part: float, period_s: float = 0.5) -> Iterator[None]:
    """Its steps run only `part` of the time; its door, which tells of its health, runs on."""
    over = threading.Event()
    steps = psutil.Process(server.pid).children(recursive=True)

    def signal_all(number: int) -> None:
        for step in steps:
            try:
                step.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def slow_down() -> None:
        while not over.is_set():
            signal_all(signal.SIGSTOP)
            over.wait(period_s * (1 - part))
            signal_all(signal.SIGCONT)
            over.wait(period_s * part)

    thread = threading.Thread(target=slow_down)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal_all(signal.SIGCONT)


def test_an_answer_that_had_begun_ends_as_unavailable_when_its_server_is_killed(cluster: Cluster) -> None:
    victim = cluster.servers[1]
    file = question_for(cluster, 1)
    with AudioFlamingo(f"{HOST}:{cluster.ports.grpc}") as flamingo:
        answer = iter(flamingo.ask(file, "count", **LONG))
        next(answer)
        victim.kill()
        with pytest.raises(
            ServerNotReachable, match="lost before the answer was complete; ask again"
        ) as lost:
            for _ in answer:
                pass
    assert lost.value.status == "UNAVAILABLE"
    victim.start()
    victim.wait_until_ready()
    assert wait_for(lambda: cluster.stats()["cluster.servers-grpc.membership_healthy"] == 3, 30)


def test_a_server_that_hangs_is_left_and_what_it_had_not_begun_is_asked_elsewhere(cluster: Cluster) -> None:
    key = key_of(cluster, 2)
    with frozen(cluster.servers[2]):
        started_s = time.monotonic()
        assert ask(cluster, clip(0.3, seed=1), key=key)  # sent to the server that hangs
        first_s = time.monotonic() - started_s
        assert wait_for(lambda: cluster.stats()["cluster.servers-grpc.membership_healthy"] == 2, 30)
        started_s = time.monotonic()
        assert ask(cluster, clip(0.3, seed=1), key=key)
        print(f"the first question took {first_s:.1f} s, the next {time.monotonic() - started_s:.1f} s")
        assert time.monotonic() - started_s < first_s
    assert wait_for(lambda: cluster.stats()["cluster.servers-grpc.membership_healthy"] == 3, 60)
    assert wait_for(lambda: home(cluster, key) == 2, 60)


def test_a_server_that_refuses_what_it_is_asked_is_ejected_and_nobody_notices(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Its health is good: only its answers tell."""
    clients, proxy = 4, Proxy(tmp_path, judgement=Judgement(ejection_s=600))
    with RefusingServer() as refusing:
        proxy.servers = [*(server.ports for server in cluster.servers), refusing.ports]
        with proxy, traffic(proxy, clients, lambda number, turn: f"{number}-{turn}") as outcomes:
            assert wait_for(lambda: proxy.stats()[EJECTIONS] > 0, 120)
            refused = refusing.refused
            assert wait_for(lambda: proxy.stats()["cluster.servers-grpc.membership_healthy"] == 3, 30)
            known = len(outcomes)
            assert wait_for(
                lambda: len(outcomes) > known + 2 * clients, 60
            )  # what was on its way has arrived
            left, known = refusing.refused, len(outcomes)
            assert wait_for(lambda: len(outcomes) > known + 20, 120)
            print(
                f"{len(outcomes)} asked, {refused} refused and asked elsewhere when it was ejected, {left} in all"
            )
            assert refusing.refused == left  # ejected once, and for longer than this test
    # So many in a row eject it. Until the counter is read, each client may have been refused a few times more.
    assert refused <= FAILURES_IN_A_ROW + 4 * clients
    assert left <= refused + 2 * clients
    assert not failures(outcomes)


def test_a_server_that_is_well_and_answers_nothing_is_given_up_and_ejected(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Only time tells: nothing is refused, no connection is lost, its health is asked by another way."""
    proxy = Proxy(tmp_path, judgement=Judgement(silence_s=8))
    with SilentServer() as silent:
        proxy.servers = [*(server.ports for server in cluster.servers), silent.ports]
        with proxy, traffic(proxy, 6, lambda number, turn: f"{number}-{turn}") as outcomes:
            assert wait_for(lambda: proxy.stats()[EJECTIONS] > 0, 120)
            known, held = len(outcomes), silent.held
            assert wait_for(lambda: len(outcomes) > known + 20, 120)
            print(f"{held} held when it was ejected; {len(outcomes)} asked, {len(failures(outcomes))} failed")
    assert held > 0
    assert not failures(outcomes)


@pytest.mark.timeout(600, func_only=True)
def test_a_slow_server_is_ejected_its_clips_are_answered_elsewhere_and_it_comes_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Its answers are right and its health is good; tests/cluster/test_slow_servers.py has what must not eject one."""
    victim, ejection_s = cluster.servers[0], 40
    proxy = Proxy(tmp_path, judgement=Judgement(slow_ms=300, ejection_s=ejection_s))
    proxy.servers = [server.ports for server in cluster.servers]
    with proxy, traffic(proxy, 9, lambda number, turn: f"{number}-{turn}") as outcomes:
        assert wait_for(lambda: len(outcomes) > 100, 120)
        assert proxy.stats()[EJECTIONS] == 0
        with slow(victim, 0.05, period_s=0.2):  # every answer takes several periods: none is quick by chance
            known = len(outcomes)
            assert wait_for(lambda: proxy.stats()[EJECTIONS] > 0, 240)
            ejected_s = time.monotonic()
            print(f"{len(outcomes) - known} answered until the slow server was ejected")
        assert wait_for(lambda: counted(victim, "af3_requests_in_flight") == 0, 30)
        at_victim, known = counted(victim, ANSWERED), len(outcomes)
        assert wait_for(lambda: len(outcomes) > known + 20, 30)
        assert counted(victim, ANSWERED) == at_victim or time.monotonic() - ejected_s > ejection_s
        assert wait_for(lambda: proxy.stats()["cluster.servers-grpc.membership_healthy"] == 3, 240)
        assert wait_for(lambda: counted(victim, ANSWERED) > at_victim + 5, 60)
    print(f"{len(outcomes)} asked, {len(failures(outcomes))} failed")
    assert not failures(outcomes)


def test_a_slow_server_gets_less_than_its_share_and_nobody_is_refused(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Where it is not ejected (`slow.factor` 0): what it holds counts against it (bounded load)."""
    before = [counted(server, ANSWERED) for server in cluster.servers]
    proxy = Proxy(tmp_path, judgement=Judgement(slow_factor=0))
    proxy.servers = [server.ports for server in cluster.servers]
    with (
        proxy,
        slow(cluster.servers[0], 0.2),
        traffic(proxy, 9, lambda number, turn: f"{number}-{turn}", 64) as outcomes,
    ):
        assert wait_for(lambda: len(outcomes) > 150, 150)
    assert not failures(outcomes)
    shares = [counted(server, ANSWERED) - old for server, old in zip(cluster.servers, before, strict=True)]
    print(f"answered: {shares}")
    assert shares[0] / sum(shares) < 0.28


def test_more_than_two_servers_carry_spills_over_to_the_third_within_the_bound(cluster: Cluster) -> None:
    """Every key is at home at two servers of eight slots; 20 clients are a fifth more than both have."""
    clients = 20
    homes = {key: home(cluster, key) for key in (f"spill-{number}" for number in range(60))}
    keys = [key for key, place in homes.items() if place != 2]
    assert {homes[key] for key in keys} == {0, 1}
    before = [counted(server, ANSWERED) for server in cluster.servers]
    with traffic(cluster, clients, lambda number, turn: keys[(number + turn) % len(keys)], 64) as outcomes:
        assert wait_for(lambda: len(outcomes) > 4 * clients, 120)  # each worker of Envoy is connected
        most = most_in_flight(cluster, lambda: len(outcomes) > 260)
    shares = [counted(server, ANSWERED) - old for server, old in zip(cluster.servers, before, strict=True)]
    print(f"answered {shares}, most in flight {most}")
    assert not failures(outcomes)
    assert shares[2] > 0
    assert max(most) <= bound(cluster, clients)
