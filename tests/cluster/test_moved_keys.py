"""How many of 400 keys move when a server is lost, and that they return: real Envoy, servers that say their name."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.envoy import HOST
from deploy.loopback import wait_for
from deploy.proxy import Proxy
from tests.support.cluster_traffic import leading_to
from tests.support.named_server import NamedServer

SERVERS = 3
KEYS = [f"key-{number}" for number in range(400)]


@pytest.fixture
def proxy(envoy: Path, servers: list[NamedServer], tmp_path: Path) -> Iterator[Proxy]:
    with leading_to(servers, Proxy(tmp_path)) as running:
        yield running


def homes(proxy: Proxy) -> dict[str, str]:
    """Which server each key leads to, asked with nothing in flight: what is counts against its server."""
    found = {}
    connection = http.client.HTTPConnection(HOST, proxy.ports.http, timeout=20)
    for key in KEYS:
        assert wait_for(proxy.idle, 20)
        connection.request("GET", "/v2", headers={"x-af3-affinity": key})
        reply = connection.getresponse()
        assert reply.status == 200
        found[key] = reply.read().decode()
    connection.close()
    return found


def healthy(proxy: Proxy) -> float:
    return proxy.stats()["cluster.servers-http.membership_healthy"]


def test_a_lost_server_moves_its_own_keys_and_they_return(proxy: Proxy, servers: list[NamedServer]) -> None:
    before = homes(proxy)
    lost = servers[0]
    lost.well = False
    assert wait_for(lambda: healthy(proxy) == SERVERS - 1, 30)
    during = homes(proxy)
    moved = [key for key in KEYS if during[key] != before[key]]
    others = [key for key in moved if before[key] != lost.name]
    print(f"{len(moved)} of {len(KEYS)} keys moved, {len(others)} of them from servers that live")
    # A third of 400 is 133; more than 173 would be four standard deviations (9.4) away.
    assert lost.name not in during.values()
    assert len(moved) <= (1 / SERVERS + 0.1) * len(KEYS)
    assert len(others) <= 0.01 * len(KEYS)
    lost.well = True
    assert wait_for(lambda: healthy(proxy) == SERVERS, 30)
    after = homes(proxy)
    assert sum(after[key] != before[key] for key in KEYS) <= 0.01 * len(KEYS)
