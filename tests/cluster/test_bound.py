"""Who gets the questions of one key that are in flight together: real Envoy, and the rule of the simulated fleet."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from deploy.envoy import HOST
from deploy.loopback import own_ports, wait_for
from deploy.proxy import Proxy
from perf.fleet_queue import passed_over_above
from tests.cluster.test_slow_servers import ASK
from tests.support.cluster_traffic import leading_to
from tests.support.named_server import NamedServer

QUESTIONS = 14
CONNECTED = 60  # questions after which both of Envoy's workers are connected to every server


def by_the_rule(servers: int) -> list[int]:
    """Which of its servers each question of one key gets, counted in the order in which the key comes to them."""
    loads, places = [0] * servers, []
    for number in range(QUESTIONS):
        most = passed_over_above(number, servers)
        places.append(next(place for place, load in enumerate(loads) if load <= most))
        loads[places[-1]] += 1
    return places


@pytest.mark.parametrize("protocol", ASK)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_envoy_spreads_the_questions_of_one_key_as_the_simulation_does(
    count: int, protocol: str, envoy: Path, tmp_path: Path
) -> None:
    def asked(key: str) -> str:
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own, to either worker
        with grpc.insecure_channel(f"{HOST}:{proxy.ports.grpc}", options) as channel:
            return ASK[protocol](proxy, channel, key)[0]

    with ExitStack() as stack:
        servers = [
            stack.enter_context(NamedServer(HOST, own_ports(), f"server-{number}")) for number in range(count)
        ]
        proxy = stack.enter_context(leading_to(servers, Proxy(tmp_path)))
        for number in range(CONNECTED):
            asked(f"other-{number}")
        assert wait_for(proxy.idle, 20)
        sent = threading.Event()
        for one in servers:
            one.delay_s = lambda number: 0.0 * sent.wait(60)  # held
        pool = stack.enter_context(ThreadPoolExecutor(QUESTIONS))
        stack.callback(sent.set)  # whatever happens, they are answered
        answers = []
        for number in range(QUESTIONS):
            answers.append(pool.submit(asked, "one-key"))
            active = f"cluster.servers-{protocol}.upstream_rq_active"
            assert wait_for(lambda active=active, number=number: proxy.stats()[active] > number, 20)
        sent.set()
        names = [one.result() for one in answers]
    order = list(dict.fromkeys(names))
    assert [order.index(name) for name in names] == by_the_rule(count)
