"""Counters, gauges and histograms in Prometheus' text format.

Counted here, where a request is seen from its arrival to its last response; a metric of a Python step of Triton costs
a round trip to the server at every change, too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Counter:
    """A sum that only grows, for each value of one label."""

    def __init__(self, name: str, description: str, label: str, values: Sequence[str] = ()):
        """`values`: those that are there from the start, at 0."""
        self.name = name
        self._description = description
        self._label = label
        self._sums: dict[str, float] = dict.fromkeys(values, 0)

    def add(self, value: str, amount: float = 1) -> None:
        self._sums[value] = self._sums.get(value, 0) + amount

    def lines(self) -> list[str]:
        sums = [f'{self.name}{{{self._label}="{value}"}} {total:g}' for value, total in self._sums.items()]
        return [f"# HELP {self.name} {self._description}", f"# TYPE {self.name} counter", *sums]


class Gauge:
    """A value that is asked for whenever metrics are read."""

    def __init__(self, name: str, description: str, read: Callable[[], float]):
        self.name = name
        self._description = description
        self._read = read

    def lines(self) -> list[str]:
        value = f"{self.name} {self._read():g}"
        return [f"# HELP {self.name} {self._description}", f"# TYPE {self.name} gauge", value]


class Histogram:
    """How often a duration fell into which bucket."""

    def __init__(self, name: str, description: str, bounds: Sequence[float] = SECONDS):
        self.name = name
        self._description = description
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def lines(self) -> list[str]:
        lines = [f"# HELP {self.name} {self._description}", f"# TYPE {self.name} histogram"]
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{self.name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{self.name}_sum {self._sum:g}", f"{self.name}_count {total}"]


class DoorMetrics:
    """Everything the door counts; `text` is what Prometheus reads."""

    def __init__(self, in_flight: Callable[[], float], ready: Callable[[], float]):
        self.requests = Counter("af3_requests", "Requests by how they ended (gRPC status)", "status", ("OK",))
        self.refused = Counter("af3_requests_refused", "Requests refused at the door", "reason")
        self.cancelled = Counter("af3_requests_cancelled", "Requests whose client left", "model")
        self.tokens = Counter("af3_tokens", "Tokens sent to clients", "model")
        self.speech = Counter("af3_spoken_audio_seconds", "Seconds of speech sent to clients", "model")
        self.upload = Counter("af3_request_bytes", "Bytes of requests", "model")
        self.first_token = Histogram(
            "af3_time_to_first_token_seconds", "From a request's arrival to its first text"
        )
        self.first_audio = Histogram(
            "af3_time_to_first_audio_seconds", "From a request's arrival to its first speech"
        )
        self.duration = Histogram(
            "af3_request_duration_seconds", "From a request's arrival to its last response"
        )
        self._gauges = (
            Gauge("af3_requests_in_flight", "Requests that the door has let in", in_flight),
            Gauge("af3_ready", "1 when the last probe of every stage was answered", ready),
        )
        self.restarts = Counter("af3_server_restarts", "Restarts of the inference server", "why")

    def text(self) -> str:
        families = (value for value in vars(self).values() if isinstance(value, Counter | Histogram))
        return "\n".join(line for family in (*families, *self._gauges) for line in family.lines()) + "\n"
