"""Collects vLLM's figures for /metrics; runs in vLLM's environment."""

from __future__ import annotations

from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from af3.llm.vllm_wire import Message


class Stats:
    """Counts are totals since the start."""

    def __init__(self) -> None:
        self._kv_use = 0.0
        self._preemptions = self._prompt_tokens = self._cached_tokens = self._generated_tokens = 0

    def logger(self, vllm_config: Any, engine_index: int = 0) -> StatLoggerBase:
        """Create a logger; vLLM calls this as its logger factory."""
        return _Logger(self)

    def record(self, scheduler: Any, iteration: Any) -> None:
        if scheduler is not None:
            self._kv_use = scheduler.kv_cache_usage
            self._prompt_tokens += scheduler.prefix_cache_stats.queries
            self._cached_tokens += scheduler.prefix_cache_stats.hits
        if iteration is not None:
            self._preemptions += iteration.num_preempted_reqs
            self._generated_tokens += iteration.num_generation_tokens

    def message(self, idle: bool) -> Message:
        """Build the message. idle: nothing is in flight; vLLM's last figures are of a step when something still was."""
        return {
            "kind": "stats",
            "kv_use": 0.0 if idle else self._kv_use,
            "prompt_tokens": self._prompt_tokens,
            "cached_tokens": self._cached_tokens,
            "preemptions": self._preemptions,
            "generated_tokens": self._generated_tokens,
        }


class _Logger(StatLoggerBase):
    def __init__(self, stats: Stats):
        self._stats = stats

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        self._stats.record(scheduler_stats, iteration_stats)

    def log_engine_initialized(self) -> None:
        pass
