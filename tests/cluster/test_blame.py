"""What gRPC's own library refuses or gives up, byte for byte: no client can have a server ejected by it."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.envoy import HOST
from deploy.loopback import own_ports
from deploy.proxy import Proxy
from tests.support.named_server import NamedServer

TIMES = 25  # more than Envoy lets a server fail one after another
METHOD = "/inference.GRPCInferenceService/ServerMetadata"
HEADERS, DATA, RST_STREAM, SETTINGS, END_STREAM, END_HEADERS = 1, 0, 3, 4, 1, 4
EMPTY = bytes(5)  # a message of no bytes


@pytest.fixture
def proxy(envoy: Path, tmp_path: Path) -> Iterator[Proxy]:
    with ExitStack() as stack:
        running = Proxy(tmp_path)
        running.servers = [own_ports() for _ in range(3)]
        for ports in running.servers:
            stack.enter_context(NamedServer(HOST, ports))
        yield stack.enter_context(running)


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """RFC 9113, 4.1."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def field(name: str, value: str) -> bytes:
    """A header as it is, by RFC 7541, 6.2.2."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def ended(port: int, body: bytes, **headers: str) -> bytes:
    """What came back of one call with these headers beside gRPC's own, up to its end."""
    fields = {":method": "POST", ":scheme": "http", ":path": METHOD, ":authority": "x", "te": "trailers",
              "content-type": "application/grpc", "x-af3-affinity": "aimed"}  # fmt: skip
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = b"".join(field(name, value) for name, value in fields.items())
    with socket.create_connection((HOST, port), timeout=20) as connection:
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(SETTINGS, 0, 0, b"")
            + frame(HEADERS, END_HEADERS, 1, head)
            + frame(DATA, END_STREAM, 1, body)
        )
        received = b""
        while not _complete(received):
            block = connection.recv(65536)
            if not block:
                break
            received += block
    return received


def _complete(received: bytes) -> bool:
    """Whether stream 1 has ended."""
    start = 0
    while start + 9 <= len(received):
        kind, flags = received[start + 3 : start + 5]
        stream = int.from_bytes(received[start + 5 : start + 9], "big")
        if stream == 1 and (kind == RST_STREAM or (kind in (HEADERS, DATA) and flags & END_STREAM)):
            return True
        start += 9 + int.from_bytes(received[start : start + 3], "big")
    return False


CALLS: dict[str, tuple[bytes, dict[str, str]]] = {
    "no time": (EMPTY, {"grpc_timeout": "1n"}),
    "little time": (EMPTY, {"grpc_timeout": "1m"}),
    "an encoding that there is not": (EMPTY, {"grpc_encoding": "none-such"}),
    "compressed without an encoding": (b"\1" + EMPTY[1:], {}),
    "too long a message": (b"\0\xff\xff\xff\xff", {}),
    "half a message": (b"\0\0\0\0\5x", {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_the_library_of_grpc_answers_ejects_no_server(proxy: Proxy, name: str) -> None:
    body, headers = CALLS[name]
    for _ in range(TIMES):
        assert ended(proxy.ports.grpc, body, **headers)
    stats = proxy.stats()
    assert stats["cluster.servers-grpc.upstream_rq_total"] >= TIMES  # they did get through
    assert stats["cluster.servers-grpc.outlier_detection.ejections_enforced_total"] == 0
    assert stats["cluster.servers-grpc.membership_healthy"] == 3
