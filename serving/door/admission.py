"""Who may come in: bounded requests in flight, unique ids, a server that is ready."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from af3 import contract
from af3.errors import RequestError, invalid
from af3.inputs.prepare import refuse_bad_id

PUBLIC_MODELS = (contract.AUDIO_FLAMINGO.name, contract.AUDIO_FLAMINGO_SPEECH.name)
RESTART_S = 5  # what a client is told to wait while the server starts or leaves
SMOOTHING = 0.1  # weight of the newest answer in the mean duration


@dataclass(frozen=True)
class Limits:
    """What one server accepts.

    in_flight: requests at once, those that wait included; a few less than the LLM's slots and queue, so that
        the server's own probes find a place.
    timeout_s: the longest a request may take; the default of requests that name no time of their own.
    message_bytes: the largest request. Ten minutes of 48 kHz stereo are 115 MB.
    """

    in_flight: int = 64
    timeout_s: float = 600.0
    message_bytes: int = 128 << 20


DEFAULT_LIMITS = Limits()


class Admission:
    """Counts the requests in flight. For one event loop: not thread-safe, but for its public
    values."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic):
        self.limits = limits
        self.ready = False
        self.draining = False
        self.suspicious = False  # Triton failed an answer: time to look after it
        self.heard_s = clock()  # when Triton last sent a part of an answer
        self._clock = clock
        self._since_s: dict[str, float] = {}
        self._mean_s = 1.0

    @property
    def in_flight(self) -> int:
        return len(self._since_s)

    def enter(self, request_id: str) -> None:
        """Take a place. Raises RequestError with what to do; every `enter` needs its `leave`."""
        if self.draining or not self.ready:
            why = "is shutting down" if self.draining else "is starting"
            raise RequestError("UNAVAILABLE", f"the server {why}; try again in {RESTART_S} s")
        refuse_bad_id(request_id)
        if request_id in self._since_s:
            raise RequestError(
                "ALREADY_EXISTS",
                f"request id '{request_id}' is in use by a request in flight; choose another",
            )
        if self.in_flight >= self.limits.in_flight:
            raise RequestError(
                "UNAVAILABLE",
                f"{self.in_flight} requests are in flight, as many as are accepted;"
                f" try again in {self.retry_s()} s",
            )
        self._since_s[request_id] = self._clock()

    def leave(self, request_id: str) -> None:
        """Give the place back."""
        seconds = self._clock() - self._since_s.pop(request_id)
        self._mean_s += SMOOTHING * (seconds - self._mean_s)

    def heard(self) -> None:
        """A part of an answer has come."""
        self.heard_s = self._clock()

    def retry_s(self) -> int:
        """Whole seconds after which an eighth of the requests in flight will have ended, at the mean pace."""
        return max(1, math.ceil(self._mean_s / 8))


def refuse_inner_model(name: str) -> None:
    """Raise RequestError for a model that only the ensembles may call."""
    if name not in PUBLIC_MODELS:
        # Only a name that could be one of ours is repeated.
        raise RequestError(
            "NOT_FOUND", f"model '{name[:64]}' is not served to clients; ask {' or '.join(PUBLIC_MODELS)}"
        )


def allowed_s(limits: Limits, grpc_s: float | None, parameter_us: int | None) -> float:
    """Seconds a request may take: the shortest of the limit, the call's own deadline and `timeout`.

    Raises RequestError for a `timeout` that is no positive number of microseconds.
    """
    if parameter_us is not None and parameter_us <= 0:
        raise invalid(f"parameter 'timeout': {parameter_us}; must be a positive number of microseconds")
    given = [limits.timeout_s, grpc_s, None if parameter_us is None else parameter_us / 1e6]
    return min(seconds for seconds in given if seconds is not None)
