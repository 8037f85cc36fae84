"""Connections of the gRPC port: so many of one address, idle ones make room, and none hides memory.

grpcio accepts connections itself, tells of none, and can limit them only all together; and it receives a message, which
may be 128 MB, before anybody here learns of it. But every connection is a file handle of this process: the kernel says
whose it is and how much has come on it, and shutting it down is an end like any other for the library.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from serving.door.gatekeeper import address_of, address_of_peer

Peer = tuple[str, int]  # address and port
BYTES_RECEIVED = slice(128, 136)  # tcpi_bytes_received of Linux' struct tcp_info
LEAST_BYTES = 1 << 20  # who has sent less than this hides nothing
CROWDED = 0.75  # of all connections: idle ones make room before there is none


def peer_of(grpc_peer: str) -> Peer:
    """gRPC's name of a client."""
    port = grpc_peer.rpartition(":")[2]
    return address_of_peer(grpc_peer), int(port) if port.isdigit() else 0


class GrpcTraffic:
    """Traffic of each gRPC connection: its open calls and the bytes read from it. For one event loop."""

    def __init__(self) -> None:
        self.calls: Counter[Peer] = (
            Counter()
        )  # that are being answered; open streams without a request are none
        self.read_bytes: Counter[Peer] = Counter()  # of whole messages

    @contextmanager
    def call(self, peer: Peer) -> Iterator[None]:
        self.calls[peer] += 1
        try:
            yield
        finally:
            self.calls[peer] -= 1
            if not self.calls[peer]:
                del self.calls[peer]

    def read(self, peer: Peer, count: int) -> None:
        self.read_bytes[peer] += count


@dataclass(frozen=True)
class Connection:
    """`unread_bytes`: that have come and belong to no message that was read, frames and headers included."""

    socket: socket.socket
    peer: Peer
    unread_bytes: int

    def shut(self) -> None:
        with suppress(OSError):  # it has just ended
            self.socket.shutdown(socket.SHUT_RDWR)


class GrpcConnections:
    """The connections of a port of this process. Call it from one thread at a time."""

    def __init__(self, port: int, most: int, most_of_address: int, traffic: GrpcTraffic):
        """`most`: what the library lets in."""
        self._port = port
        self._most = most
        self._most_of_address = most_of_address
        self._traffic = traffic
        self._age: dict[Peer, int] = {}  # the later one was first seen, the higher
        self._seen = 0

    @property
    def may_be_crowded(self) -> bool:
        """Costs one system call; `make_room` several a connection."""
        handles = sum(1 for _ in os.scandir("/proc/self/fd"))
        return handles > min(self._most_of_address, CROWDED * self._most)

    def make_room(self) -> int:
        """Close idle connections, the oldest first: of addresses with too many, and of who has most where there are
        hardly any left. How many were closed.
        """
        with self._open() as found:
            of_address = Counter(one.peer[0] for one in found)
            idle = [one for one in found if one.peer not in self._traffic.calls]
            surplus = len(found) - int(CROWDED * self._most)
            closed = 0
            for address, count in of_address.most_common():
                too_many = max(count - self._most_of_address, min(count - 1, surplus - closed))
                for one in [one for one in idle if one.peer[0] == address][: max(0, too_many)]:
                    one.shut()
                    closed += 1
            return closed

    def close_heaviest(self, most_bytes: int, excess_bytes: int) -> int:
        """Close those on which most has come that nobody has read, where that is more than `most_bytes` in all.

        `excess_bytes`: of memory, which may be somebody else's: no more than that is freed. How many were closed.
        """
        with self._open() as found:
            bytes_to_free = min(excess_bytes, sum(one.unread_bytes for one in found) - most_bytes)
            closed = 0
            for one in sorted(found, key=lambda one: -one.unread_bytes):
                if bytes_to_free <= 0 or one.unread_bytes < LEAST_BYTES:
                    break
                one.shut()
                bytes_to_free -= one.unread_bytes
                closed += 1
            return closed

    @contextmanager
    def _open(self) -> Iterator[list[Connection]]:
        """The oldest first."""
        found = [
            Connection(one, peer, _received(one) - self._traffic.read_bytes[peer])
            for one, peer in _sockets(self._port)
        ]
        try:
            for one in found:
                if one.peer not in self._age:
                    self._age[one.peer] = self._seen = self._seen + 1
            open_peers = {one.peer for one in found}
            _forget(self._age, open_peers)
            _forget(self._traffic.read_bytes, open_peers)
            yield sorted(found, key=lambda one: self._age[one.peer])
        finally:
            for one in found:
                one.socket.close()


def _forget(known: dict[Peer, int], still_open: Iterable[Peer]) -> None:
    for peer in set(known) - set(still_open):
        known.pop(peer, None)


def _sockets(port: int) -> Iterator[tuple[socket.socket, Peer]]:
    """Second handles of this process's connections at that port of its own; who takes one closes it."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # names are all that is wanted, of thousands
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            one = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # it has just been closed
            continue
        peer = _peer(one, port)
        if peer is None:
            one.close()
        else:
            yield one, peer


def _peer(one: socket.socket, port: int) -> Peer | None:
    """None for what is no connection at that port."""
    with suppress(OSError):  # it listens, or has just ended
        if one.family != socket.AF_UNIX and one.getsockname()[1] == port:
            host, its_port = one.getpeername()[:2]
            return address_of(host), its_port
    return None


def _received(one: socket.socket) -> int:
    with suppress(OSError):
        found = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)[BYTES_RECEIVED]
        if len(found) == 8:
            return int(struct.unpack("=Q", found)[0])
    return 0
