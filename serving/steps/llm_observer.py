"""The metrics of the LLM engine; ends the step when the engine's process ends."""

from __future__ import annotations

import os
import threading

from af3.llm.interface import EngineStats
from serving.heartbeat import Heart
from serving.steps import adapter

EXIT_LOST = 70


class LlmObserver:
    """`af3.llm.interface.Observer` of the `llm` step."""

    def __init__(self) -> None:
        self._heart = Heart("llm")
        self._running = adapter.gauge("af3_llm_running", "Sequences that hold a slot of the KV cache")
        self._waiting = adapter.gauge("af3_llm_waiting", "Requests that wait for a slot")
        self._threads = adapter.gauge("af3_llm_threads", "Python threads of the LLM process")
        self._kv_use = adapter.gauge("af3_llm_kv_use", "Used part of vLLM's KV cache, 0 to 1")
        self._prompt_tokens = adapter.counter("af3_llm_prompt_tokens", "Prompt tokens that the LLM was given")
        self._cached_tokens = adapter.counter(
            "af3_llm_cached_tokens", "Those of them whose keys and values were kept from earlier prompts"
        )
        self._generated_tokens = adapter.counter(
            "af3_llm_generated_tokens", "Tokens of answers, whether or not somebody was left to read them"
        )
        self._preemptions = adapter.counter(
            "af3_llm_preemptions", "Sequences that vLLM put back for want of KV cache"
        )
        self._prefix_bytes = adapter.gauge(
            "af3_llm_prefix_cache_bytes", "Keys and values kept for later prompts, with ONNX Runtime"
        )
        self._last = EngineStats(0.0, 0, 0, 0)

    def counts(self, running: int, waiting: int) -> None:
        self._running.set(running)
        self._waiting.set(waiting)
        self._threads.set(threading.active_count())

    def turned(self, busy: bool) -> None:
        (self._heart.moved if busy else self._heart.idle)()

    def stats(self, stats: EngineStats) -> None:
        last, self._last = self._last, stats
        for metric, now, before in (  # each costs a round trip to the server process
            (self._kv_use, stats.kv_use, last.kv_use),
            (self._prefix_bytes, stats.prefix_bytes, last.prefix_bytes),
        ):
            if now != before:
                metric.set(now)
        for total, now, before in (
            (self._prompt_tokens, stats.prompt_tokens, last.prompt_tokens),
            (self._cached_tokens, stats.cached_tokens, last.cached_tokens),
            (self._generated_tokens, stats.generated_tokens, last.generated_tokens),
            (self._preemptions, stats.preemptions, last.preemptions),
        ):
            if now != before:
                total.increment(now - before)

    def lost(self) -> None:
        """End the step: the supervisor sees that and replaces the server."""
        os._exit(EXIT_LOST)
