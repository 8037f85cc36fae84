"""Drops requests that were stopped, whose client has left, or whose time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from af3.llm.intake import Intake, Waiting, too_late
from af3.llm.sequence import Generation, Listener

CHECK_S = 0.05  # asking whether a client has left costs a round trip to the server process


class Running(Protocol):
    """A request that an engine has dequeued."""

    @property
    def generation(self) -> Generation: ...

    @property
    def listener(self) -> Listener: ...

    @property
    def begun(self) -> bool:
        """Whether it has produced a token."""
        ...


Taken = TypeVar("Taken", bound=Running)


class Unwanted:
    """Finds such requests in the queue and among running ones. Used only on the engine's thread."""

    def __init__(self, intake: Intake):
        self._intake = intake
        self._next_check_s = 0.0

    def drop(self, running: Sequence[Taken], release: Callable[[Taken], None]) -> None:
        """End each of them and notify its listener.

        release: removes a request from the engine and frees its id. A stopped answer gets a final call without tokens.
        When its time is up, an answer without a token fails; one with tokens continues until its reader stops it.
        """
        overdue = self._intake.overdue()
        for waiting in self._intake.remove(overdue):
            waiting.listener.failed(too_late(waiting.generation))
        going_on: list[Taken] = []
        for one in running:
            if one.generation.request_id in overdue and not one.begun:
                release(one)
                one.listener.failed(too_late(one.generation))
            else:
                going_on.append(one)
        stopped = self._intake.take_stops() | self._left(going_on)
        for waiting in self._intake.remove(stopped):
            waiting.listener.tokens((), final=True)
        for one in going_on:
            if one.generation.request_id in stopped:
                release(one)
                one.listener.tokens((), final=True)

    def _left(self, running: Sequence[Running]) -> set[str]:
        """Return ids whose clients have left; asks at most every CHECK_S.

        Of a request that has ended Triton no longer has what it would look at, and reads memory that it has freed.
        """
        now = time.monotonic()
        if now < self._next_check_s:
            return set()
        self._next_check_s = now + CHECK_S
        entries: list[Waiting | Running] = [*self._intake.waiting(), *running]
        return {entry.generation.request_id for entry in entries if entry.listener.cancelled()}
