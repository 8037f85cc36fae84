"""The door's metrics, for Prometheus.

Counted here, where a request is seen from its arrival to its last response; a metric of a Python step of Triton costs
a round trip to the server at every change, too. Every label has a closed set of values: nothing that a client sends
becomes one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest

from af3 import contract
from serving.door.triton_errors import STATUSES

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
ENDED = ("OK", *STATUSES)
MODELS = (
    contract.AUDIO_FLAMINGO.name,
    contract.AUDIO_FLAMINGO_SPEECH.name,
    contract.SPEECH_ALONE.name,
    "other",
)
CALLERS_REFUSED = (
    "no key",
    "wrong key",
    "expired",
    "revoked",
    "requests at once",
    "requests a minute",
    "audio a minute",
)
RESTARTS = ("died", "ended", "failed", "hung", "start failed", "other")
FAMILY = re.compile(r"^# TYPE (\S+) ", re.MULTILINE)

prometheus_client.disable_created_metrics()


class Counter:
    """A sum that only grows, for each value of one label; all values are there from the start, at 0."""

    def __init__(
        self, registry: CollectorRegistry, name: str, description: str, label: str, values: Sequence[str]
    ):
        """`values`: all there can be; the last stands for any other."""
        family = prometheus_client.Counter(name, description, [label], registry=registry)
        self._series = {value: family.labels(value) for value in values}
        self._other = self._series[values[-1]]

    def add(self, value: str, amount: float = 1) -> None:
        self._series.get(value, self._other).inc(amount)


class KeyCounter:
    """A sum for each API key, by its name, which the operator gave."""

    def __init__(self, registry: CollectorRegistry, name: str, description: str):
        self._family = prometheus_client.Counter(name, description, ["key"], registry=registry)
        self._series: dict[str, prometheus_client.Counter] = {}

    def name_keys(self, names: Iterable[str]) -> None:
        """All there are from now on. Those that went keep their sums."""
        self._series |= {name: self._family.labels(name) for name in names}

    def add(self, key: str, amount: float = 1) -> None:
        """Nothing for requests without a key."""
        if key in self._series:
            self._series[key].inc(amount)


class DoorMetrics:
    """Everything the door counts."""

    def __init__(self, in_flight: Callable[[], float], ready: Callable[[], float]):
        self.registry = registry = CollectorRegistry()

        def counter(name: str, description: str, label: str, values: Sequence[str]) -> Counter:
            return Counter(registry, name, description, label, values)

        def histogram(name: str, description: str) -> prometheus_client.Histogram:
            return prometheus_client.Histogram(name, description, buckets=SECONDS, registry=registry)

        self.requests = counter("af3_requests", "Requests by how they ended (gRPC status)", "status", ENDED)
        self.refused = counter("af3_requests_refused", "Requests refused at the door", "reason", STATUSES)
        self.cancelled = counter("af3_requests_cancelled", "Requests whose client left", "model", MODELS)
        self.stops = counter("af3_stops", "Requests to stop an answer or its speech", "found", ("yes", "no"))
        self.tokens = counter("af3_tokens", "Tokens sent to clients", "model", MODELS)
        self.speech = counter(
            "af3_spoken_audio_seconds", "Seconds of speech sent to clients", "model", MODELS
        )
        self.upload = counter("af3_request_bytes", "Bytes of requests", "model", MODELS)
        self.restarts = counter("af3_server_restarts", "Restarts of the inference server", "why", RESTARTS)
        self.callers_refused = counter(
            "af3_callers_refused", "Refusals for the API key or its limits", "why", CALLERS_REFUSED
        )
        self.key_requests = KeyCounter(registry, "af3_key_requests", "Requests by API key")
        self.key_tokens = KeyCounter(registry, "af3_key_tokens", "Tokens sent by API key")
        self.key_audio = KeyCounter(
            registry, "af3_key_audio_seconds", "Seconds of audio asked about by API key"
        )
        self.first_token = histogram(
            "af3_time_to_first_token_seconds", "From a request's arrival to its first text"
        )
        self.first_audio = histogram(
            "af3_time_to_first_audio_seconds", "From a request's arrival to its first speech"
        )
        self.duration = histogram(
            "af3_request_duration_seconds", "From a request's arrival to its last response"
        )
        self.named_clips = counter(
            "af3_named_clips", "Requests that named a clip by its hash", "found", ("yes", "no")
        )
        self._gauge("af3_requests_in_flight", "Requests that the door has admitted", in_flight)
        self._gauge("af3_ready", "1 when the last probe of every stage was answered", ready)

    def name_keys(self, names: Sequence[str]) -> None:
        for counter in (self.key_requests, self.key_tokens, self.key_audio):
            counter.name_keys(names)

    def watch_clips(self, read: Callable[[], float]) -> None:
        """`read`: bytes of clips that are kept to be named."""
        self._gauge("af3_kept_clip_bytes", "Clips that are kept to be named by their hash", read)

    def watch_realtime(self, sessions: Callable[[], float], held_bytes: Callable[[], float]) -> None:
        self._gauge("af3_realtime_sessions", "Realtime sessions that are open", sessions)
        self._gauge("af3_realtime_bytes", "Sound and text that Realtime sessions hold", held_bytes)

    def _gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        prometheus_client.Gauge(name, description, registry=self.registry).set_function(read)

    def text(self) -> str:
        """The door's own metrics in Prometheus' text format."""
        return generate_latest(self.registry).decode()


def joined(ours: str, tritons: str) -> str:
    """Both texts as one; a family of Triton's that has the name of one of ours is left out."""
    taken = set(FAMILY.findall(ours))
    kept, skipping = [], False
    for line in tritons.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            skipping = line.split(" ", 3)[2] in taken
        if not skipping:
            kept.append(line)
    return "\n".join([*kept, ours])


def known_model(name: str) -> str:
    """The name of a public model, or "other"."""
    return name if name in MODELS else MODELS[-1]
