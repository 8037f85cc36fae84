"""Whom a request belongs to: the holder of an API key or, where no keys are asked for, an address.

A guard (`http_guard`, `grpc_guard`) finds the caller before any route or method runs and leaves it in the context
of the task; whatever that task starts finds it there. So no translator can forget to pass it on.
"""

from __future__ import annotations

from contextvars import ContextVar

from af3.errors import RequestError
from serving.door.api_keys import ApiKey, utc_now
from serving.door.rate_limit import Bucket

AUDIO_NEEDED_S = 1e-9  # any audio at all


class Caller:
    """`name`: of the key; empty for an address. Compared by identity."""

    def __init__(self, key: ApiKey | None = None):
        self.key = key
        self._requests: Bucket | None = None
        self._audio: Bucket | None = None

    @property
    def name(self) -> str:
        return "" if self.key is None else self.key.name

    def change(self, key: ApiKey, now_s: float) -> None:
        """The file of keys was read again. What was used of a minute is forgotten when the limit has changed."""
        old, self.key = self.key, key
        if old is None or old.requests_per_minute != key.requests_per_minute:
            self._requests = _bucket(key.requests_per_minute, now_s)
        if old is None or old.audio_seconds_per_minute != key.audio_seconds_per_minute:
            self._audio = _bucket(key.audio_seconds_per_minute, now_s)

    def check(self, in_flight: int, now_s: float) -> None:
        """Raise RequestError when the key allows no request now; `in_flight`: how many it has."""
        if self.key is None:
            return
        refuse_ended(self.key)
        most = self.key.requests_at_once
        if most is not None and in_flight >= most:
            raise over_limit("requests at once", f"{in_flight} requests in flight, the most of key", self, 1)
        if self._requests is not None and (wait_s := self._requests.wait_s(1, now_s)):
            limit = f"{self.key.requests_per_minute:g} requests a minute, the most of key"
            raise over_limit("requests a minute", limit, self, wait_s)
        if self._audio is not None and (wait_s := self._audio.wait_s(AUDIO_NEEDED_S, now_s)):
            limit = f"{self.key.audio_seconds_per_minute:g} s of audio a minute, the most of key"
            raise over_limit("audio a minute", limit, self, wait_s)

    def take_request(self, now_s: float) -> None:
        if self._requests is not None:
            self._requests.take(1, now_s)

    def take_audio(self, seconds: float, now_s: float) -> None:
        """Called when a clip has been decoded: nobody knows its length before."""
        if self._audio is not None:
            self._audio.take(seconds, now_s)


class OverLimit(RequestError):
    """A caller has used what its key allows; `limit` is a label of the metrics."""

    def __init__(self, limit: str, message: str, retry_s: int):
        super().__init__("RESOURCE_EXHAUSTED", message, retry_s)
        self.limit = limit


def over_limit(limit: str, sentence: str, caller: Caller, retry_s: int) -> OverLimit:
    return OverLimit(limit, f"{sentence} '{caller.name}'; try again in {retry_s} s", retry_s)


def refuse_ended(key: ApiKey) -> None:
    """Raise RequestError for a key that is revoked or has expired."""
    if key.revoked:
        raise RequestError(
            "UNAUTHENTICATED", f"API key '{key.name}' is revoked; ask the operator for another"
        )
    if key.expired(utc_now()):
        raise RequestError(
            "UNAUTHENTICATED", f"API key '{key.name}' has expired; ask the operator for another"
        )


ANYONE = Caller()  # where no guard stands before the relay
_current: ContextVar[Caller] = ContextVar("caller", default=ANYONE)
current_caller = _current.get
set_caller = _current.set


def _bucket(per_minute: float | None, now_s: float) -> Bucket | None:
    return None if per_minute is None else Bucket(per_minute, now_s)
