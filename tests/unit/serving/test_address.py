"""Where a server may listen, and what is said when it may not."""

import os
import socket
from pathlib import Path

import pytest

from serving import address
from serving.address import Ports, ServerError, claim, listen, location

HOST = "127.0.0.1"
SIX = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")


def refusal(ports: Ports, host: str = HOST) -> str:
    with pytest.raises(ServerError) as refused:
        claim(ports, host)
    return str(refused.value)


def test_ports_that_are_free_are_given() -> None:
    found = claim(Ports(0, 0, 0), HOST)
    assert len(set(vars(found).values())) == 3
    assert claim(found, HOST) == found


def test_a_port_that_is_promised_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    promised = claim(Ports(0, 0, 0), HOST)
    chosen = iter((promised.metrics, promised.grpc))
    monkeypatch.setattr(address, "listen", lambda host, port: listen(host, port or next(chosen, 0)))
    found = claim(Ports(0, 0, 0), HOST, vars(promised).values())
    assert not set(vars(found).values()) & set(vars(promised).values())
    assert not list(chosen)


def test_who_holds_a_port_is_named() -> None:
    with listen(HOST, 0) as taken:
        port = taken.getsockname()[1]
        said = refusal(Ports(0, port, 0))
    assert said.startswith(f"http port {port} on {HOST} is taken by ")
    assert f"(process {os.getpid()})" in said
    assert f"HTTP_PORT={port + 10}" in said


def test_the_same_port_twice_is_refused() -> None:
    free = claim(Ports(0, 0, 0), HOST).grpc
    assert (
        refusal(Ports(free, 0, free))
        == f"grpc port {free} is given twice; every port needs a number of its own"
    )


@pytest.mark.parametrize("port", [70_000, -1])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    assert "ports are numbers from 0 to 65535" in refusal(Ports(0, 0, port))


@pytest.mark.parametrize("host", ["192.0.2.9", "nosuch.invalid"])
def test_an_address_that_is_not_ours_is_not_called_a_taken_port(host: str) -> None:
    said = refusal(Ports(0, 0, 0), host)
    assert "taken" not in said
    assert "give an address of this machine" in said


@SIX
@pytest.mark.parametrize("host", ["::1", "::", "localhost", "0.0.0.0"])
def test_every_kind_of_host_can_be_listened_on(host: str) -> None:
    ports = claim(Ports(0, 0, 0), host)
    with listen(host, ports.http):
        target = {"::": "::1", "0.0.0.0": HOST}.get(host, host)
        socket.create_connection((target, ports.http), timeout=30).close()


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    assert location("::1", 8001) == "[::1]:8001"
    assert location("127.0.0.1", 8001) == "127.0.0.1:8001"
    assert location("localhost", 8001) == "localhost:8001"
