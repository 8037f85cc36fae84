"""Events on their way to one client: made in order by anybody, written by one task."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable

from serving.door.realtime.realtime_events import Event, new_id

FLUSH_S = 2.0


class Outbox:
    """Bounded: a client that does not read loses its session (`on_full`)."""

    def __init__(self, limit_bytes: int, on_full: Callable[[], None]):
        self._limit_bytes = limit_bytes
        self._on_full = on_full
        self._texts: deque[str] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def emit(self, event: Event) -> None:
        """Does not wait: what it says is what holds now."""
        text = json.dumps({"event_id": new_id("event"), **event})
        self._texts.append(text)
        self._bytes += len(text)
        self._changed.set()
        self._empty.clear()
        if self._bytes > self._limit_bytes:
            self._on_full()

    async def write(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Until it is cancelled, or the client has left."""
        while True:
            while self._texts:
                text = self._texts.popleft()
                await send(text)
                self._bytes -= len(text)
            self._empty.set()
            self._changed.clear()
            await self._changed.wait()

    async def flush(self) -> None:
        """Wait a moment for what is left to be written."""
        try:
            await asyncio.wait_for(self._empty.wait(), FLUSH_S)
        except asyncio.TimeoutError:
            self._texts.clear()
