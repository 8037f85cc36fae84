"""How the random checkpoint is asked to "Go on." at length: no answer ends before a test has interrupted it."""

from collections.abc import Callable, Mapping
from typing import Any

# Sampled hot it seldom ends by itself; with this seed it goes on to the end (tests/e2e/test_streams.py).
LONG = {"max_tokens": 1024, "temperature": 1.5, "seed": 7}


def long_answer(
    ask: Callable[[Mapping[str, Any]], list[int]], tokens: int
) -> tuple[Mapping[str, Any], list[int]]:
    """Parameters with which an answer has so many tokens, and their ids: LONG, or LONG with another seed.

    What a seed gives depends on the random numbers of the LLM's engine. ask: what answers the question of the test.
    """
    for seed in (LONG["seed"], *range(1, 50)):
        parameters = {**LONG, "seed": seed}
        ids = ask(parameters)
        if len(ids) >= tokens:
            return parameters, ids
    raise AssertionError(f"no answer of {tokens} tokens with any of 50 seeds")
