"""What the live server reports of itself."""

import time
import urllib.request
from collections.abc import Callable

from serving.door.door import Door
from serving.host.triton import Server


def read(server: Server | Door) -> dict[str, float]:
    """Every sample of /metrics, by name with labels."""
    return samples(f"http://{server.host}:{server.ports.metrics}/metrics")


def settled(door: Door) -> dict[str, float]:
    """Every sample once all that was asked before is booked, so that what a test asks is the only difference."""
    wait_until(lambda: door.relay.open_answers == 0 and door.admission.in_flight == 0)
    return read(door)


def samples(url: str) -> dict[str, float]:
    """The same, of any address."""
    with urllib.request.urlopen(url) as reply:
        lines = reply.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


def wait_until(
    condition: Callable[[], bool], timeout_s: float = 20, what: str = "the condition did not come true"
) -> None:
    """Poll a condition; fail with the sentence `what` when it does not come true."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} within {timeout_s:g} s"
        time.sleep(0.01)
