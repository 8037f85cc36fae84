"""A name server for one test: A records that may change, nothing else."""

from __future__ import annotations

import socketserver
import struct

from deploy.loopback import Running
from tests.support.in_threads import in_thread

A, IN, NAME_ERROR = 1, 1, 3


class DnsServer(Running):
    """`records`: name → addresses; others do not exist. `port`: where it listens (UDP). A context manager."""

    def __init__(self, records: dict[str, list[str]]):
        super().__init__()
        self.records = records

    def open(self) -> None:
        handler = type("Handler", (_Handler,), {"names": self})
        server = socketserver.ThreadingUDPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        self.port = self.stack.enter_context(in_thread(server))

    def reply(self, query: bytes) -> bytes:
        """RFC 1035, 4.1: the query's head and question, and an answer for each address."""
        number, _, questions, *_ = struct.unpack(">6H", query[:12])
        name, end = _name(query, 12)
        kind = struct.unpack(">H", query[end : end + 2])[0]
        known = self.records.get(name)
        found = known if known and kind == A else []
        flags = 0x8580 | (0 if known else NAME_ERROR)  # an answer, authoritative, recursion available
        head = struct.pack(">6H", number, flags, questions, len(found), 0, 0)
        answers = [
            struct.pack(">3HIH4B", 0xC00C, A, IN, 1, 4, *map(int, address.split("."))) for address in found
        ]
        return head + query[12 : end + 4] + b"".join(answers)


class _Handler(socketserver.BaseRequestHandler):
    names: DnsServer

    def handle(self) -> None:
        query, connection = self.request
        connection.sendto(self.names.reply(query), self.client_address)


def _name(query: bytes, start: int) -> tuple[str, int]:
    """The name in a question, in small letters without the last dot, and where it ends."""
    labels = []
    while length := query[start]:
        labels.append(query[start + 1 : start + 1 + length].decode().lower())
        start += 1 + length
    return ".".join(labels), start + 1
