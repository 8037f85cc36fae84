"""Passes requests from the threads that submit and stop them to the engine's thread."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Collection
from typing import NamedTuple

from af3.errors import RequestError
from af3.llm.sequence import Generation, Listener


class Waiting(NamedTuple):
    """A queued request."""

    generation: Generation
    listener: Listener


class Intake:
    """A bounded queue, the ids in use, their deadlines and pending stops. Thread-safe.

    An id is in use from `submit` until `end`, also after its request has left the queue.
    """

    def __init__(self, max_queue: int):
        self._max_queue = max_queue
        self._queue: deque[Waiting] = deque()
        self._ids: set[str] = set()
        self._due_s: dict[str, float] = {}  # deadlines of requests in flight with a timeout
        self._stop_ids: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False

    def submit(self, generation: Generation, listener: Listener) -> None:
        """Queue a request. Raises RequestError when its id is in use, the queue is full, or after `close`."""
        with self._changed:
            if self._closed:
                raise shutting_down()
            if generation.request_id in self._ids:
                raise RequestError(
                    "ALREADY_EXISTS",
                    f"request id '{generation.request_id}' is in use by a request in flight; choose another",
                )
            if len(self._queue) >= self._max_queue:
                raise RequestError(
                    "UNAVAILABLE",
                    f"the queue is full ({self._max_queue} requests wait); try again in a second",
                )
            self._ids.add(generation.request_id)
            if generation.timeout_s is not None:
                self._due_s[generation.request_id] = time.monotonic() + generation.timeout_s
            self._queue.append(Waiting(generation, listener))
            self._changed.notify()

    def stop(self, request_id: str) -> None:
        """Request the end of a request; ignores unknown ids."""
        with self._changed:
            if request_id in self._ids:
                self._stop_ids.add(request_id)
                self._changed.notify()

    def close(self) -> None:
        """Refuse all further requests."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def wait(self, busy: bool) -> bool:
        """Block until there is work (not at all when `busy`); returns False after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._queue or busy)
            return not self._closed

    def __len__(self) -> int:
        return len(self._queue)

    def waiting(self) -> list[Waiting]:
        with self._changed:
            return list(self._queue)

    def take_stops(self) -> set[str]:
        """Return the ids to stop, each only once."""
        with self._changed:
            stops, self._stop_ids = self._stop_ids, set()
            return stops

    def overdue(self) -> set[str]:
        """Return the ids past their deadline, queued or not."""
        now = time.monotonic()
        with self._changed:
            return {request_id for request_id, due_s in self._due_s.items() if due_s <= now}

    def next(self, most_tokens: float = math.inf) -> Waiting | None:
        """Dequeue the oldest request with a prompt of fewer than `most_tokens`; its id stays in use."""
        with self._changed:
            for entry in self._queue:
                if len(entry.generation.input_ids) < most_tokens:
                    self._queue.remove(entry)
                    return entry
            return None

    def remove(self, request_ids: Collection[str]) -> list[Waiting]:
        """Remove these requests from the queue, if still there, and free their ids."""
        with self._changed:
            removed = [entry for entry in self._queue if entry.generation.request_id in request_ids]
            self._queue = deque(
                entry for entry in self._queue if entry.generation.request_id not in request_ids
            )
            for entry in removed:
                self.end(entry.generation)
            return removed

    def remove_all(self) -> list[Waiting]:
        """Empty the queue."""
        return self.remove({entry.generation.request_id for entry in self.waiting()})

    def end(self, generation: Generation) -> None:
        """Free the id of a finished request, and drop a stop that came too late."""
        with self._changed:
            self._ids.discard(generation.request_id)
            self._due_s.pop(generation.request_id, None)
            self._stop_ids.discard(generation.request_id)


def shutting_down() -> RequestError:
    return RequestError("UNAVAILABLE", "the server is shutting down")


def too_late(generation: Generation) -> RequestError:
    return RequestError(
        "DEADLINE_EXCEEDED", f"not answered within {generation.timeout_s:g} s; allow more time"
    )
