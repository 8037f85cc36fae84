"""The interfaces between the `llm` step and its engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from af3.llm.sequence import Generation, Listener


class Engine(Protocol):
    """Generates answers for many requests at once. Thread-safe."""

    def submit(self, generation: Generation, listener: Listener) -> None:
        """Queue a request. Raises RequestError when it cannot be served."""

    def stop(self, request_id: str) -> None:
        """Stop a request; its listener gets a final call without tokens."""

    def close(self) -> None:
        """Fail all requests in flight and end."""


@dataclass(frozen=True)
class EngineStats:
    """prompt_tokens: read since the start. cached_tokens: the part of them whose keys and values were cached.
    generated_tokens: of answers, since the start, whether or not somebody was left to read them.

    vLLM only: kv_use, share of the KV cache, 0 to 1; preemptions since the start. ONNX Runtime only: prefix_bytes, the
    size of the prefix cache.
    """

    kv_use: float
    prompt_tokens: int
    cached_tokens: int
    preemptions: int
    prefix_bytes: int = 0
    generated_tokens: int = 0


class Observer(Protocol):
    """Receives an engine's events, on the engine's thread."""

    def counts(self, running: int, waiting: int) -> None:
        """The number of running sequences or of queued requests has changed."""

    def turned(self, busy: bool) -> None:
        """The engine made progress. busy: requests are in flight."""

    def stats(self, stats: EngineStats) -> None:
        """Receive figures that have changed."""

    def lost(self) -> None:
        """The engine's process has ended; every listener has been notified."""
