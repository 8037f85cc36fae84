"""Measures processor time in a unit that grows with it on a busy machine, so that a bound holds on any."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def in_loops(call: Callable[[], object]) -> float:
    """Returns the processor time of `call` in this thread, in runs of a fixed loop (15 ms on an idle machine).

    Neighbours that share the processor's caches made a plain bound of seconds fail. Garbage collection is no part of
    it: its cost grows with what all earlier tests have left.
    """
    before_s = _loop_s()
    gc.disable()
    try:
        start_s = time.thread_time()
        call()
        spent_s = time.thread_time() - start_s
    finally:
        gc.enable()
    return spent_s / ((before_s + _loop_s()) / 2)


def _loop_s() -> float:
    start_s = time.thread_time()
    sum(number * number for number in range(200_000))
    return time.thread_time() - start_s
