"""Processes that are watched for their end."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping
from types import TracebackType


class ExitWatch:
    """Tells when one of several processes ends; use it as a context manager.

    It holds a handle of each (pidfd, Linux 5.3), so that looking costs one system call, needs no new handle when
    there are none left, and never takes another process with a reused id for the one that was meant.
    """

    def __init__(self, names: Mapping[int, str]):
        """`names`: what each process id is called. One that has ended already is found at the first `wait`."""
        self._names: dict[int, str] = {}  # by handle
        self._poll = select.poll()
        self._ended: str | None = None
        for pid, name in names.items():
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                self._ended = name
                continue
            self._names[handle] = name
            self._poll.register(handle, select.POLLIN)

    def wait(self, seconds: float) -> str | None:
        """The name of a process that has ended, as soon as there is one; None when time is up."""
        if self._ended is None:
            for handle, _ in self._poll.poll(1000 * seconds):
                self._ended = self._names[handle]
        return self._ended

    def __enter__(self) -> ExitWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._names:
            os.close(handle)
