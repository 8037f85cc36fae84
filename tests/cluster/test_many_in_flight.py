"""A server that is lost with many questions that it had not begun to answer: all of them are answered elsewhere."""

import http.client
import multiprocessing
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from deploy.envoy import HOST
from deploy.loopback import answers, own_ports, wait_for
from deploy.proxy import Proxy
from serving.address import Ports
from tests.support.named_server import NamedServer

CLIENTS = 96  # a third of them at each server
HELD_S = 20.0  # longer than it takes to lose it


def serve(ports: Ports) -> None:
    """A process of its own, to be killed."""
    with NamedServer(HOST, ports, "lost") as server:
        server.delay_s = lambda number: HELD_S
        multiprocessing.Event().wait()


def post(proxy: Proxy, key: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(HOST, proxy.ports.http, timeout=120)
    connection.request("POST", "/v2/models/any/generate", b"{}", {"x-af3-affinity": key})
    reply = connection.getresponse()
    found = reply.status, reply.read().decode()
    connection.close()
    return found


def test_whatever_a_lost_server_had_not_begun_is_answered_by_others(envoy: Path, tmp_path: Path) -> None:
    lost = own_ports()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(lost,), daemon=True)
    process.start()
    proxy = Proxy(tmp_path)
    with ExitStack() as stack:
        stack.callback(process.kill)
        others = [
            stack.enter_context(NamedServer(HOST, own_ports(), f"other-{number}")) for number in range(2)
        ]
        for one in others:
            one.delay_s = lambda number: HELD_S / 4  # so that all that is retried is in flight at once
        assert wait_for(lambda: answers(lost.http, "/v2/health/ready", False), 30)
        proxy.servers = [lost, *(one.ports for one in others)]
        stack.enter_context(proxy)
        proxy.route_to(proxy.servers)
        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(post, proxy, f"key-{number}") for number in range(CLIENTS)]
            assert wait_for(lambda: proxy.stats()["cluster.servers-http.upstream_rq_active"] == CLIENTS, 20)
            process.kill()
            found = [one.result() for one in running]
        retried = proxy.stats()["cluster.servers-http.upstream_rq_retry"]
    print(f"{retried:.0f} of {CLIENTS} asked again: {Counter(status for status, _ in found)}")
    assert retried > 16
    assert {status for status, _ in found} == {200}
    assert "lost" not in {name for _, name in found}
