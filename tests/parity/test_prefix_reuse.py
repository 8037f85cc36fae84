"""Keys and values of earlier prompts, on a real decoder graph: answers as of Transformers and of a cold run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch

from af3.llm.decoder import Decoder
from af3.llm.interface import EngineStats
from af3.llm.scheduler import Scheduler
from af3.llm.sequence import Generation
from tests.support.echo_decoder import Heard, generation
from tests.support.engines import BuiltEngines
from tests.support.oracle import Oracle

numbers = count()  # an id is free again only after its last token has been told
ROWS, ROW_TOKENS, TOKENS = 3, 1024, 24
MIB = 1 << 20


@contextmanager
def scheduler(built: BuiltEngines, cache_bytes: int, stats: list[EngineStats]) -> Iterator[Scheduler]:
    """On a decoder whose rows hold no number at first: what is read and was not written shows."""
    decoder = Decoder(built.engines / "llm", ROWS, ROW_TOKENS, threads=1)
    for buffer in decoder._cache.values():
        buffer.fill(np.nan)
    running = Scheduler(decoder, 64, 64, stats=stats.append, prefix_cache_bytes=cache_bytes)
    yield running
    running.close()


def prompt(seed: int, size: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 390, size).tolist()


def answers(running: Scheduler, asked: list[Generation], together: bool) -> list[list[int]]:
    listeners = []
    for one in asked:
        listeners.append(Heard())
        running.submit(replace(one, request_id=f"{next(numbers)}"), listeners[-1])
        if not together:
            listeners[-1].answer()
    return [listener.answer() for listener in listeners]


def conversations(built: BuiltEngines) -> list[Generation]:
    """Questions that begin alike, in an order in which each is known in part; every third about a clip."""
    vocabulary, width = np.load(built.engines / "llm" / "embeddings.npy", mmap_mode="r").shape
    table = np.random.default_rng(4).standard_normal((120, width)).astype(np.float32)
    asked = []
    for number in range(12):
        start = prompt(number % 3, 150 + 40 * (number // 3))
        clip = list(range(vocabulary, vocabulary + len(table))) if number % 3 == 0 else []
        asked.append([*start[:50], *clip, *start[50:], *prompt(100 + number, 1 + number)])
    return [generation("", ids, TOKENS, table=table) for ids in asked]


@torch.inference_mode()
def transformers_answer(oracle: Oracle, ids: list[int]) -> list[int]:
    given = torch.tensor([ids])
    answer = oracle.model.generate(
        input_ids=given,
        attention_mask=torch.ones_like(given),
        max_new_tokens=TOKENS,
        eos_token_id=10_000,  # beyond the vocabulary: no answer ends early
        do_sample=False,
    )
    return answer[0, len(ids) :].tolist()


def test_a_second_question_and_a_next_turn_are_answered_as_by_transformers(
    engines: BuiltEngines, oracle: Oracle
) -> None:
    stats: list[EngineStats] = []
    with scheduler(engines, 64 * MIB, stats) as running:
        first = prompt(1, 400)
        turn = [*first, *transformers_answer(oracle, first), *prompt(2, 9)]
        asked = [first, [*first[:300], *prompt(3, 40)], turn, first]
        for ids in asked:
            (answer,) = answers(running, [generation("", ids, TOKENS)], together=False)
            assert answer == transformers_answer(oracle, ids)
    of_answers = stats[1::2]  # each question is reported twice: after its prompt, and after its answer
    assert [one.cached_tokens for one in of_answers] == [0, 288, 288 + 416, 288 + 416 + 384]
    assert [one.generated_tokens for one in of_answers] == [TOKENS * number for number in range(1, 5)]


@pytest.mark.parametrize("precision", ["fp32", "int4"])
@pytest.mark.parametrize("together", [False, True], ids=["one after the other", "together"])
def test_answers_do_not_depend_on_what_was_read_before(
    precision: str, together: bool, engines: BuiltEngines, int4_engines: BuiltEngines
) -> None:
    built = engines if precision == "fp32" else int4_engines
    asked = conversations(built)
    cold: list[EngineStats] = []
    with scheduler(built, 0, cold) as running:
        expected = answers(running, asked, together=False)
    for cache_mib in (1, 64):
        warm: list[EngineStats] = []
        with scheduler(built, cache_mib * MIB, warm) as running:
            assert answers(running, asked, together) == expected
            assert answers(running, asked, together) == expected
        assert warm[-1].cached_tokens > 1000 and warm[-1].prefix_bytes <= cache_mib * MIB
    assert len({tuple(answer) for answer in expected}) > 6
