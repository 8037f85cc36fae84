"""Streams to Triton whose request is large: another thread's event loop sends them, over a connection of its own.

gRPC copies a message in the thread of the loop that sends it. Of 20 MB that is milliseconds in which no other stream
of the door goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import grpc.aio

LARGE_BYTES = 1 << 20
AHEAD = 16  # responses that are read before anybody takes them
LOOK_EVERY_S = 0.01  # whether they were taken
Open = Callable[[], grpc.aio.StreamStreamCall]


class FarLoop:
    """An event loop in a thread of its own, which begins with the first request.

    open_channel: called there, once.
    """

    def __init__(self, open_channel: Callable[[], grpc.aio.Channel]):
        self._open_channel = open_channel
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: grpc.aio.Channel | None = None

    def run(self, coroutine: Coroutine[Any, Any, None]) -> Future[None]:
        """Any loop may call it."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="door large", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call_soon(self, callback: Callable[[], object]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(callback)

    @property
    def channel(self) -> grpc.aio.Channel:
        """For coroutines of this loop."""
        if self._channel is None:
            self._channel = self._open_channel()
        return self._channel

    async def close(self) -> None:
        if self._loop is None:
            return
        await asyncio.wrap_future(self.run(self._end()))
        self.call_soon(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()
        self._loop = None

    async def _end(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class FarStream:
    """What `RelayedAnswer` asks of a grpc.aio.StreamStreamCall, for the loop that makes it; one request is written."""

    def __init__(self, far: FarLoop, open_stream: Callable[[grpc.aio.Channel], grpc.aio.StreamStreamCall]):
        self._far = far
        self._open_stream = open_stream
        self._here = asyncio.get_running_loop()
        self._call: grpc.aio.StreamStreamCall | None = None
        self._cancelled = False
        self._responses: deque[bytes] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._sent = asyncio.Event()
        self._changed = asyncio.Event()

    async def write(self, message: tuple[bytes, ...]) -> None:
        """Send a message, given in pieces. Returns when gRPC has it, or cannot send it: then reading tells."""
        messages = [message]
        del message  # who sends it gives its memory back
        self._far.run(self._carry(messages))
        await self._wait(self._sent)

    async def done_writing(self) -> None:
        """There is one request, after which nothing is written."""

    def cancel(self) -> None:
        self._cancelled = True
        self._far.call_soon(self._cancel_there)

    def __aiter__(self) -> FarStream:
        return self

    async def __anext__(self) -> bytes:
        """Raises grpc.aio.AioRpcError."""
        while not self._responses:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._wait(self._changed)
        return self._responses.popleft()

    async def _wait(self, event: asyncio.Event) -> None:
        try:
            await event.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def _carry(self, messages: list[tuple[bytes, ...]]) -> None:
        """In the other loop."""
        error: BaseException | None = None
        try:
            self._call = call = self._open_stream(self._far.channel)
            if self._cancelled:
                call.cancel()
            try:
                await call.write(messages.pop())
                await call.done_writing()
            except asyncio.InvalidStateError:
                pass  # Triton is away or has refused
            self._tell(self._sent.set)
            async for response in call:
                self._responses.append(response)
                self._tell(self._changed.set)
                while len(self._responses) >= AHEAD:
                    await asyncio.sleep(LOOK_EVERY_S)
        except BaseException as found:
            error = found
            if not isinstance(found, Exception):
                raise
        finally:
            self._tell(lambda: self._end(error))

    def _end(self, error: BaseException | None) -> None:
        self._error, self._ended = error, True
        self._sent.set()
        self._changed.set()

    def _tell(self, callback: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # that loop has ended
            self._here.call_soon_threadsafe(callback)

    def _cancel_there(self) -> None:
        if self._call is not None:
            self._call.cancel()
