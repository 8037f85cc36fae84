"""Connections: so many of one address and in all; and a way in for probes that no client can fill."""

import asyncio
import http.client
import select
import socket
import subprocess
import sys
import textwrap
from contextlib import ExitStack

import grpc
import pytest

from serving.address import probe_address
from serving.door import http_connection
from serving.door.admission import Limits
from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.scrape import wait_until
from tests.support.stand_in_door import door_before

HOST = "127.0.0.1"
HELD = b"POST /v2/models/audio_flamingo/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"


def busy(door: Door, source: str) -> socket.socket:
    """A connection whose request is not complete: it makes room for nobody."""
    made = socket.create_connection((HOST, door.ports.http), timeout=10, source_address=(source, 0))
    made.sendall(HELD)
    return made


def status(door: Door, source: str, path: str = "/v2/health/ready", port: int | None = None) -> int:
    """0: the connection was refused."""
    connection = http.client.HTTPConnection(
        HOST, port or door.ports.http, timeout=10, source_address=(source, 0)
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def test_one_address_has_only_so_many_connections(triton: FakeTriton) -> None:
    limits = Limits(connections_of_address=4)
    with (
        door_before(triton, limits) as door,
        ExitStack() as stack,
    ):
        for _ in range(4):
            stack.enter_context(busy(door, "127.0.0.7"))
        wait_until(lambda: door.relay.uploads.count == 4)
        assert status(door, "127.0.0.7") == 0
        assert status(door, "127.0.0.8") == 200


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:0:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
def test_whoever_has_an_ipv6_network_has_one_address_over_http_too(one: str, other: str, same: bool) -> None:
    """A client that takes another address of its /64 for each connection had as many as there are."""

    def address(host: str) -> str:
        transport = asyncio.Transport({"peername": (host, 5000, 0, 0)})
        return http_connection._address(transport)

    assert (address(one) == address(other)) == same
    assert http_connection._address(asyncio.Transport()) == ""


def test_idle_connections_of_an_address_make_room_for_its_own(triton: FakeTriton) -> None:
    limits = Limits(connections_of_address=4)
    with (
        door_before(triton, limits) as door,
        ExitStack() as stack,
    ):
        for _ in range(20):
            stack.enter_context(
                socket.create_connection((HOST, door.ports.http), source_address=("127.0.0.7", 0))
            )
        assert status(door, "127.0.0.7") == 200


# In a process of its own: its limit of file handles is the usual one, and hard.
SCENE = """
    import resource, socket, sys
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    from serving.address import Ports, claim, probe_address
    from serving.door.door import Door, TritonAddress
    from serving.door.open_files import connections_allowed, raise_limit
    from tests.support.fake_triton import FakeTriton
    raise_limit()
    host = "127.0.0.1"
    ports = claim(Ports(0, 0, 0), host)
    with FakeTriton() as triton, Door(TritonAddress(triton.ports, ""), host, ports) as door:
        door.admission.ready = True
        print(door.ports.grpc, door.ports.http, door.ports.metrics, flush=True)
        sys.stdin.readline()
        print(door.admission.ready, connections_allowed(), flush=True)
"""


def given_up(connections: list[socket.socket]) -> int:
    """How many of them the server has closed."""
    poll = select.poll()
    for one in connections:
        poll.register(one, select.POLLRDHUP)
    return len(poll.poll(0))


WAIT_S = 20  # a machine with other work may be slow


def health(url: str) -> bool:
    with grpc.insecure_channel(url, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            return bool(
                channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=WAIT_S) == b"\x08\x01"
            )
        except grpc.RpcError:
            return False


@pytest.mark.parametrize("port", ["grpc", "http"])
def test_probes_are_answered_while_1100_raw_connections_are_held_at_1024_file_handles(port: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SCENE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        assert served.stdin is not None
        grpc_port, http_port, metrics_port = map(int, served.stdout.readline().split())
        with ExitStack() as stack:
            to = (HOST, grpc_port if port == "grpc" else http_port)
            held = [stack.enter_context(socket.create_connection(to, timeout=10)) for _ in range(1100)]
            wait_until(lambda: given_up(held) > 1100 - 1024)
            lane = probe_address(grpc_port)
            assert lane is not None
            assert health(lane)
            connection = http.client.HTTPConnection(HOST, metrics_port, timeout=10)
            connection.request("GET", "/v2/health/ready")
            assert connection.getresponse().status == 200
            connection.close()
            if port == "http":
                assert health(f"{HOST}:{grpc_port}")
        assert health(f"{HOST}:{grpc_port}")
        served.stdin.write("\n")
        served.stdin.flush()
        assert served.stdout.readline() == "True 256\n"
    assert served.returncode == 0
