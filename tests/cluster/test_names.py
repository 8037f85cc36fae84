"""The chart's own Envoy configuration before servers that it finds by name, as in Kubernetes; only ports are others."""

import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from tritonclient.grpc import service_pb2, service_pb2_grpc

from deploy.envoy import HOST
from deploy.loopback import own_ports, wait_for
from deploy.proxy import Proxy
from serving.address import Ports
from tests.cluster.test_chart import of_kind, rendered
from tests.support.dns_server import DnsServer
from tests.support.named_server import NamedServer

SERVERS = [f"af3-{number}.af3-servers.default.svc" for number in range(3)]
ADDRESSES = [f"127.0.0.{number}" for number in range(2, 6)]  # all of them are this machine's; one to spare


class ChartsProxy(Proxy):
    """An Envoy with what the chart gives it, but for ports and the name server."""

    def __init__(self, folder: Path, dns: DnsServer, servers: Ports):
        super().__init__(folder)
        self._dns = dns
        self._of_servers = {8000: servers.http, 8001: servers.grpc}

    def configuration(self) -> dict[str, Any]:
        (config,) = of_kind(rendered("cpu", "names-of-three"), "ConfigMap")
        found: dict[str, Any] = yaml.safe_load(config["data"]["envoy.yaml"])
        found["admin"]["address"]["socket_address"]["port_value"] = self.ports.metrics
        for listener in found["static_resources"]["listeners"]:
            address = listener["address"]["socket_address"]
            address["port_value"] = self.ports.grpc if listener["name"] == "grpc" else self.ports.http
        resolver = {"socket_address": {"address": HOST, "port_value": self._dns.port}}
        for cluster in found["static_resources"]["clusters"]:
            kind = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
            cluster["typed_dns_resolver_config"] = {
                "name": "envoy.network.dns_resolver.cares",
                "typed_config": {"@type": kind, "resolvers": [resolver]},
            }
            for one in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]:
                endpoint = one["endpoint"]
                address = endpoint["address"]["socket_address"]
                address["port_value"] = self._of_servers[address["port_value"]]
                endpoint["health_check_config"] = {"port_value": self._of_servers[8000]}
        return found


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer({name: [place] for name, place in zip(SERVERS, ADDRESSES, strict=False)}) as running:
        yield running


@pytest.fixture
def proxy(envoy: Path, dns: DnsServer, tmp_path: Path) -> Iterator[ChartsProxy]:
    ports = own_ports()
    with ExitStack() as stack:
        for address in ADDRESSES:
            stack.enter_context(NamedServer(address, ports))
        running = stack.enter_context(ChartsProxy(tmp_path, dns, ports))
        assert wait_for(lambda: members(running) == {3.0}, 20)
        yield running


def members(proxy: Proxy) -> set[float]:
    stats = proxy.stats()
    return {
        stats[f"cluster.servers-{kind}.{count}"]
        for kind in ("http", "grpc")
        for count in ("membership_healthy", "membership_total")
    }


KEYS = [f"key-{number}" for number in range(200)]


def by_http(proxy: Proxy, key: str) -> str:
    request = urllib.request.Request(f"http://{HOST}:{proxy.ports.http}/v2", headers={"x-af3-affinity": key})
    with urllib.request.urlopen(request, timeout=20) as reply:
        name: str = reply.read().decode()
    return name


def by_grpc(proxy: Proxy, key: str) -> str:
    with grpc.insecure_channel(f"{HOST}:{proxy.ports.grpc}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ServerMetadataRequest()
        name: str = stub.ServerMetadata(request, metadata=(("x-af3-affinity", key),), timeout=20).name
    return name


def homes(proxy: Proxy, expected: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """Which server each key leads to, over either protocol, once all of Envoy's threads have heard of a change."""
    found: dict[str, str] = {}

    def agreed() -> bool:
        found.update({key: by_http(proxy, key) for key in KEYS})
        return {key: by_grpc(proxy, key) for key in KEYS} == found and expected(found)

    assert wait_for(agreed, 30), found
    return found


def test_a_key_leads_to_one_server_over_both_protocols(proxy: ChartsProxy) -> None:
    homes(proxy, lambda found: set(found.values()) == set(ADDRESSES[:3]))


def test_a_server_that_comes_back_under_its_name_gets_its_keys_back(
    proxy: ChartsProxy, dns: DnsServer
) -> None:
    """As a StatefulSet rolls: its name is gone while it is still well; then there is a new address under it."""
    before = homes(proxy, lambda found: set(found.values()) == set(ADDRESSES[:3]))
    leaving, coming = ADDRESSES[1], ADDRESSES[3]
    del dns.records[SERVERS[1]]
    assert wait_for(lambda: members(proxy) == {2.0}, 20)
    during = homes(proxy, lambda found: leaving not in found.values())
    moved = [key for key in KEYS if before[key] not in (leaving, during[key])]
    assert len(moved) <= 0.1 * len(KEYS)  # the bound on a server's load moves a few
    dns.records[SERVERS[1]] = [coming]
    after = {key: coming if home == leaving else home for key, home in before.items()}
    homes(proxy, lambda found: found == after)
