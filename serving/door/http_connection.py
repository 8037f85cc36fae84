"""uvicorn's HTTP/1.1 connection, with the limits and the leniency that an open port needs.

Beyond uvicorn (0.54): a limit for the size and the time of a request's head; a limit of connections, of which idle ones
make room; clients that close their side after the request and still wait for the answer (RFC 9112 §9.6); bytes after a
request that do not end its answer; no chunks for clients of HTTP/1.0; refusals in JSON; large bodies past the parser.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import httptools
from uvicorn.protocols.http import httptools_impl

from serving.door.body_receiver import BLOCK_BYTES, LARGE_BYTES, BodyReceiver
from serving.door.body_thread import BodyThread, Loan
from serving.door.gatekeeper import address_of
from serving.door.http_parts import BoundedParts, Refused

HEAD_BYTES = 32 << 10
HEAD_S = 30.0
TOO_LONG = f"the head of the request has more than {HEAD_BYTES} bytes"
PROBE_S = 0.1  # a client that has closed its side may be gone: then it holds a place until it is asked
PROBES_S = 0.25
LINGER_S = 2.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(BoundedParts):
    """One TCP connection. `most` of the class is how many there may be, `most_of_address` of one address;
    `blocks`: where large bodies are received, `bodies`: the thread that receives those that are not encrypted; of
    every server its own.
    """

    most = 1024
    most_of_address = 512
    blocks = bytearray(BLOCK_BYTES)
    bodies: BodyThread | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._half_closed = False
        self._loan: Loan | None = None
        self._deaf = False  # what still comes is not HTTP and is thrown away
        own = self._of_address(transport) if len(self.connections) >= self.most_of_address else []
        crowd = own if len(own) >= self.most_of_address else self.connections
        full = crowd is own or len(self.connections) >= self.most
        if full and not self._evict_idle(crowd):
            transport.abort()
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._give_up_body()
        super().connection_lost(exc)

    @property
    def answering(self) -> bool:
        """A request has come whose answer is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    def _of_address(self, transport: asyncio.Transport) -> list[asyncio.Protocol]:
        address = _address(transport)
        return [other for other in self.connections if _address(other.transport) == address]  # type: ignore[union-attr]

    def _evict_idle(self, among: Iterable[asyncio.Protocol]) -> bool:
        """Close a connection without a request, to make room."""
        for other in among:
            if isinstance(other, Connection) and not other.answering:
                other.transport.abort()
                self.connections.discard(other)
                return True
        return False

    def _expect_head(self) -> None:
        self._stop_head_timer()
        self._head_timer = self.loop.call_later(HEAD_S, self._late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        if self.answering:
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(TOO_LONG)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._stop_head_timer()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            raise Refused(TOO_LONG)
        if sum(name == b"host" for name, _ in self.headers) > 1:
            raise Refused("the request has two Host headers; send one")
        before = self.cycle
        super().on_headers_complete()
        extensions = self.scope.setdefault("extensions", {})
        extensions.update({"af3.connection": self, "af3.cycle": self.cycle})  # type: ignore[dict-item]
        if self.cycle is not before and self.scope["http_version"] == "1.0":
            # uvicorn makes the cycle itself, and knows chunks alone for a body without a length.
            self.cycle.__class__ = _Http10Cycle
            self.cycle.may_stay = self.parser.should_keep_alive()  # type: ignore[attr-defined]

    def on_body(self, body: bytes) -> None:
        """Straight to who collects it (`http_body.read_body`): no task is woken for a block of a large clip."""
        collect = getattr(self.cycle, "collect", None)
        if collect is None or self.cycle.response_complete:
            super().on_body(body)
            return
        self.count_body(len(body))
        if not collect(body, len(body)):
            self.cycle.collect = None  # type: ignore[attr-defined]
            self.cycle.message_event.set()

    def drop_body(self, cycle: Any, announced: int) -> None:
        """The rest of a body of so many bytes, which was refused before it was collected, is for nobody."""
        if self._loan is None and self.transport.get_protocol() is self:
            cycle.collect = None
            self.receive_body(cycle, announced - self.body_bytes)

    def receive_body(self, cycle: Any, left: int) -> None:
        """The next `left` bytes are the rest of a body that `cycle.collect` takes, or nobody where that is None."""
        if left < LARGE_BYTES or cycle is not self.cycle or self.transport.is_closing():
            return
        if self.bodies is None or self.scheme == "https":
            self._receive_here(cycle, left)
            return
        descriptor = self.transport.get_extra_info("socket").fileno()
        try:
            self._loan = Loan(descriptor, cycle, left, self._body_back)
        except OSError:  # no more descriptors
            self._receive_here(cycle, left)
            return
        self.flow.read_paused = False  # `_body_back` resumes
        self.transport.pause_reading()
        self.bodies.receive(self._loan)

    def _give_up_body(self) -> None:
        if self._loan is not None and self.bodies is not None:
            self.bodies.give_up(self._loan)

    def _body_back(self, loan: Loan) -> None:
        self._loan = None
        loan.cycle.message_event.set()
        if self.transport.is_closing():
            return
        if loan.failed:
            self.transport.abort()
        elif loan.left:
            self._receive_here(loan.cycle, loan.left)
        else:
            self.body_received()
        self.transport.resume_reading()

    def _receive_here(self, cycle: Any, left: int) -> None:
        self.transport.set_protocol(BodyReceiver(self, cycle, self.blocks, left))

    def body_received(self) -> None:
        """The body has come past the parser, which still waits for it: another one reads the next request."""
        self.transport.set_protocol(self)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.on_message_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = not self.only_head_came

    def send_400_response(self, msg: str) -> None:
        """Bytes that are not HTTP. After a request that is being answered they are ignored."""
        if self.pipeline:
            self._end_with_waiting()
            return
        if self.answering and self.cycle.more_body and not self.cycle.response_started:
            self.cycle.disconnected = True  # the request itself is broken, in a chunk of its body
            self.cycle.message_event.set()
        elif self.answering:
            self._deaf = True
            self.cycle.keep_alive = False
            return
        self._deaf = True
        self._stop_head_timer()
        body = json.dumps({"error": f"INVALID_ARGUMENT: {msg}"}).encode()
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        )
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        # Closed at once, the client might lose the reply: what it still sends would reset the connection.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)

    def _end_with_waiting(self) -> None:
        """Answer the requests that came whole, then close: a refusal now would stand amid another's answer."""
        self._deaf = True
        if self.cycle.more_body:
            self.pipeline.popleft()  # the newest is the one that is broken
        self.cycle = self.pipeline[0][0] if self.pipeline else self.current
        self.cycle.keep_alive = False

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client has closed its side. It may still wait for the answer, or be gone; only writing tells which."""
        if not self.answering or self.scheme == "https":
            return None
        if self.cycle.more_body:
            return None  # the request itself is cut short
        self._half_closed = True
        self.cycle.keep_alive = False
        self.loop.call_later(PROBE_S, self._probe)
        return True

    def _probe(self) -> None:
        """Write something that HTTP/1.1 allows before an answer: a client that is gone resets the connection."""
        if self.transport.is_closing() or not self.answering or self.cycle.response_started:
            return
        if self.scope["http_version"] == "1.1":
            self.transport.write(CONTINUE)
            self.loop.call_later(PROBES_S, self._probe)


def _address(transport: asyncio.BaseTransport) -> str:
    """Of its client, as callers are told apart; empty where there is none."""
    peer = transport.get_extra_info("peername")
    return _known_address(str(peer[0])) if peer else ""


_known_address = lru_cache(maxsize=4096)(address_of)  # a new connection may ask for those of all others


class _Http10Cycle(httptools_impl.RequestResponseCycle):
    """The answer to a client of HTTP/1.0: a body without a length ends with the connection."""

    may_stay = False  # the client asked for Connection: keep-alive
    open_ended = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            names = {name.lower() for name, _ in headers}
            self.open_ended = b"content-length" not in names
            if self.open_ended:
                self.chunked_encoding = False
            elif self.may_stay and b"connection" not in names:
                self.keep_alive = True
                message = {**message, "headers": [*headers, (b"connection", b"keep-alive")]}
        elif self.open_ended:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)
