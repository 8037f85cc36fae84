"""A thread that receives large bodies: reading 20 MB from a socket takes the loop that carries every stream 15 ms.

A connection lends its socket for the length of one body. The thread reads and hands each block to `cycle.collect`;
what nobody collects, as of a body that was refused, is thrown away. Then, or when the client has left, the connection
reads on by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from serving.door.body_receiver import BLOCK_BYTES

log = logging.getLogger("af3.door")
DROPPED_BYTES = 1 << 20  # at once


class Loan:
    """One socket, until `left` bytes of a body have come. `returned`: called in the connection's loop at the end."""

    def __init__(self, descriptor: int, cycle: Any, left: int, returned: Callable[[Loan], None]):
        self.socket = socket.socket(fileno=os.dup(descriptor))  # the connection may close its own
        self.cycle = cycle
        self.left = left
        self.failed = False
        self.loop = asyncio.get_running_loop()
        self.returned = returned

    def refuse(self) -> None:
        """No more of the body is collected; who waits for it is told."""
        self.tell(self.cycle.message_event.set)

    def tell(self, what: Callable[[], object]) -> None:
        """In the connection's loop."""
        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(what)


class BodyThread:
    """Of one HTTP server; it begins with the first body."""

    def __init__(self) -> None:
        self._nowhere = bytearray(DROPPED_BYTES)
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._asked: deque[Callable[[], object]] = deque()
        self._lent: set[Loan] = set()
        self._buffer = bytearray(BLOCK_BYTES)
        self._thread: threading.Thread | None = None
        self._closed = False

    def receive(self, loan: Loan) -> None:
        self._ask(lambda: self._begin(loan))

    def give_up(self, loan: Loan) -> None:
        """The connection is gone."""
        self._ask(lambda: self._end(loan))

    def close(self) -> None:
        """Give back what is lent, and wait for the thread."""
        if self._thread is not None:
            self._ask(self._finish)
            self._thread.join()
        self._selector.close()
        os.close(self._wake)

    def _ask(self, what: Callable[[], object]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="door bodies", daemon=True)
            self._thread.start()
        self._asked.append(what)
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        view = memoryview(self._buffer)
        while not self._closed:
            for key, _ in self._selector.select():
                if key.data is None:
                    os.eventfd_read(self._wake)
                elif key.data in self._lent:
                    self._read(key.data, view)
            while self._asked:
                self._asked.popleft()()

    def _read(self, loan: Loan, view: memoryview) -> None:
        collect = loan.cycle.collect
        try:
            count = self._drop(loan) if collect is None else loan.socket.recv_into(view[: loan.left])
        except BlockingIOError:
            return
        except OSError:
            count = 0  # the connection will see it, too
        loan.left -= count
        if count and collect is not None and not self._collected(loan, collect, count):
            loan.cycle.collect = None
            loan.refuse()
        if not (count and loan.left) or loan.failed:
            self._end(loan)

    def _drop(self, loan: Loan) -> int:
        """Linux copies nothing of what it drops."""
        return loan.socket.recv_into(self._nowhere, min(loan.left, DROPPED_BYTES), socket.MSG_TRUNC)

    def _collected(self, loan: Loan, collect: Callable[[bytearray, int], bool], count: int) -> bool:
        """False when no more of it is taken."""
        try:
            return collect(self._buffer, count)
        except Exception:
            log.exception("collecting a body failed")
            loan.failed = True
            return False

    def _begin(self, loan: Loan) -> None:
        self._lent.add(loan)
        self._selector.register(loan.socket, selectors.EVENT_READ, loan)

    def _end(self, loan: Loan) -> None:
        if loan not in self._lent:
            return
        self._lent.discard(loan)
        self._selector.unregister(loan.socket)
        loan.socket.close()
        loan.tell(lambda: loan.returned(loan))

    def _finish(self) -> None:
        self._closed = True
        for loan in list(self._lent):
            self._end(loan)
