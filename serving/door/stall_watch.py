"""Clients that do not read: a write that makes no progress for too long costs its client the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

WRITE_S = 20.0
LOOK_EVERY_S = 1.0


class Write:
    """The write that is under way on one stream; enter it around every write."""

    def __init__(self, watch: StallWatch, on_stall: Callable[[], None]):
        self._watch = watch
        self.on_stall = on_stall
        self.since_s: float | None = None

    def __enter__(self) -> None:
        self.since_s = self._watch.now()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.since_s = None


class StallWatch:
    """Looks at all writes once a second, so that a write itself needs no timer."""

    def __init__(self, write_s: float = WRITE_S):
        self._write_s = write_s
        self._writes: set[Write] = set()
        self.now = asyncio.get_running_loop().time
        self._task = asyncio.create_task(self._look())

    def __len__(self) -> int:
        """Streams that are watched."""
        return len(self._writes)

    def begin(self, on_stall: Callable[[], None]) -> Write:
        """For one stream. `on_stall` is called once, and must end the stream; call `end` when it has ended."""
        write = Write(self, on_stall)
        self._writes.add(write)
        return write

    def end(self, write: Write) -> None:
        self._writes.discard(write)

    def close(self) -> None:
        self._task.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(min(LOOK_EVERY_S, self._write_s / 2))
            late_s = self.now() - self._write_s
            for write in [one for one in self._writes if one.since_s is not None and one.since_s < late_s]:
                self.end(write)
                write.on_stall()
