"""What the `llm` step asks of an engine, and what it hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from af3.llm.sequence import Generation, Listener


class Engine(Protocol):
    """Generates for many requests at once. Every method is thread-safe."""

    def submit(self, generation: Generation, listener: Listener) -> None:
        """Queue a request. Raises RequestError when it cannot be served."""

    def stop(self, request_id: str) -> None:
        """End a request before its time; its listener gets a last call without tokens."""

    def close(self) -> None:
        """Fail what is in flight and end."""


@dataclass(frozen=True)
class EngineStats:
    """Of vLLM. kv_use: 0 to 1, of the KV cache; the others are totals since its start."""

    kv_use: float
    prompt_tokens: int
    cached_tokens: int
    preemptions: int


class Observer(Protocol):
    """Hears of an engine; called from its thread."""

    def counts(self, running: int, waiting: int) -> None:
        """Sequences that are generated, and requests in the queue; when that has changed."""

    def turned(self, busy: bool) -> None:
        """The engine has moved on; `busy`: something is in flight."""

    def stats(self, stats: EngineStats) -> None:
        """Figures that only vLLM has."""

    def lost(self) -> None:
        """The engine's process has ended; every listener has been told."""
