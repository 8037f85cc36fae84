"""Watches many requests with one thread and reports those that have brought nothing for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Clock:
    """Tells the time and waits. Tests replace it."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, changed: threading.Condition, until: float | None) -> None:
        """Wait, with `changed` held, until a notification or the time `until` (None: only a notification)."""
        changed.wait(None if until is None else max(0.0, until - self.now()))


class StallWatch:
    """Calls `stalled(key)` once when `key` has not been touched for `after_s` seconds, on its own thread."""

    def __init__(self, after_s: float, stalled: Callable[[str], None], clock: Clock, name: str = "stall"):
        self._after_s = after_s
        self._stalled = stalled
        self._clock = clock
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}  # ordered by deadline, because all wait equally long
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def touch(self, key: str) -> None:
        """Restart the timer of `key`."""
        with self._changed:
            idle = not self._due
            self._due.pop(key, None)
            self._due[key] = self._clock.now() + self._after_s
            if idle:
                self._changed.notify()

    def forget(self, key: str) -> None:
        with self._changed:
            self._due.pop(key, None)

    def close(self) -> None:
        """End the thread; nothing is called afterwards."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (key := self._next()) is not None:
            self._stalled(key)

    def _next(self) -> str | None:
        """Wait for the next stalled key; None when the watch is closed."""
        with self._changed:
            while not self._closed:
                key, due = next(iter(self._due.items()), ("", None))
                if due is not None and due <= self._clock.now():
                    del self._due[key]
                    return key
                self._clock.wait(self._changed, due)
        return None
