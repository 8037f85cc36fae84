"""An answer that Ctrl-C may interrupt."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from ..answer import Delta
from ..client import Answer


def deltas(answer: Answer) -> Iterator[Delta]:
    """The deltas of `answer`, read by a thread of its own. Raises what iterating it raises.

    Python raises KeyboardInterrupt in the main thread wherever that is. Within gRPC it leaves locks and calls
    behind that make closing the channel wait for ever; here it only ever ends a wait for the next delta.
    """
    arrived: queue.SimpleQueue[Delta | BaseException | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for delta in answer:
                arrived.put(delta)
        except BaseException as error:
            arrived.put(error)
        else:
            arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (delta := arrived.get()) is not None:
        if isinstance(delta, BaseException):
            raise delta
        yield delta
