"""Prompts that begin like an earlier one: only what is new is computed, every answer is that of a cold run.

Long because its cases share one stand-in decoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from af3.errors import RequestError
from af3.llm.block_keys import BLOCK_TOKENS
from af3.llm.interface import EngineStats
from af3.llm.scheduler import Scheduler
from af3.llm.sequence import Generation
from tests.support.echo_decoder import Heard, generation
from tests.support.recalling_decoder import VOCABULARY, RecallingDecoder, cold_answer

ROWS, QUEUE = 3, 40
BLOCK_BYTES = 4 * BLOCK_TOKENS
AMPLE = 1000 * BLOCK_BYTES


class Served:
    """A scheduler with a prefix cache, and what it says of itself."""

    def __init__(self, cache_bytes: int = AMPLE, prefill_tokens: int = 32):
        self.decoder = RecallingDecoder(ROWS)
        self.stats = [EngineStats(0.0, 0, 0, 0)]
        self.scheduler = Scheduler(
            self.decoder, QUEUE, prefill_tokens, stats=self.stats.append, prefix_cache_bytes=cache_bytes
        )
        self._names = 0

    def submit(self, asked: Generation) -> Heard:
        self._names += 1
        listener = Heard()
        self.scheduler.submit(replace(asked, request_id=f"{self._names}"), listener)
        return listener

    def computed(self, asked: Generation) -> int:
        """Prompt tokens that were computed for an answer, which must be that of a cold run."""
        before = self.decoder.computed
        assert self.submit(asked).answer() == cold_answer(asked)
        return self.decoder.computed - before

    @property
    def cached(self) -> int:
        return self.stats[-1].cached_tokens


@pytest.fixture
def served() -> Iterator[Served]:
    running = Served()
    yield running
    running.scheduler.close()


@pytest.fixture
def small() -> Iterator[Served]:
    """A cache of eight blocks."""
    running = Served(8 * BLOCK_BYTES)
    yield running
    running.scheduler.close()


def prompt(seed: int, tokens: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCABULARY, tokens).tolist()


def asked(ids: Sequence[int], tokens: int = 3, table: np.ndarray | None = None) -> Generation:
    return generation("", ids, tokens, table=table)


def clip(seed: int, rows: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 50, (rows, 1)).astype(np.float32)


AUDIO = list(range(VOCABULARY, VOCABULARY + 40))


@pytest.mark.parametrize("common", [0, 1, BLOCK_TOKENS - 1, BLOCK_TOKENS, BLOCK_TOKENS + 1, 100, 500])
def test_a_second_prompt_computes_what_is_new_since_the_last_whole_block(served: Served, common: int) -> None:
    start = prompt(1, common)
    first, second = [*start, 1, *prompt(2, 20)], [*start, 2, *prompt(3, 30)]
    assert served.computed(asked(first)) == len(first)
    assert served.computed(asked(second)) == len(second) - common // BLOCK_TOKENS * BLOCK_TOKENS
    assert served.cached == common // BLOCK_TOKENS * BLOCK_TOKENS


@pytest.mark.parametrize("tokens", [1, BLOCK_TOKENS - 1, BLOCK_TOKENS, BLOCK_TOKENS + 1, 5 * BLOCK_TOKENS])
def test_the_last_token_of_a_known_prompt_is_computed(served: Served, tokens: int) -> None:
    served.computed(asked(prompt(1, tokens)))
    again = served.computed(asked(prompt(1, tokens)))
    assert again == tokens - (tokens - 1) // BLOCK_TOKENS * BLOCK_TOKENS >= 1


def test_the_next_turn_computes_neither_the_question_nor_the_answer_again(served: Served) -> None:
    first = asked(prompt(1, 90), tokens=70)
    served.computed(first)
    turn = [*prompt(1, 90), *cold_answer(first), *prompt(2, 12)]
    # The last token of an answer has never been read by the decoder.
    assert served.computed(asked(turn)) == len(turn) - (90 + 69) // BLOCK_TOKENS * BLOCK_TOKENS


def test_a_second_prompt_is_known_while_the_first_is_still_answered(served: Served) -> None:
    first = served.submit(asked(prompt(1, 200), tokens=900))
    assert first.started.wait(30)
    first.go_on.clear()
    second = served.submit(asked(prompt(1, 200)))
    first.go_on.set()
    assert second.answer() == cold_answer(asked(prompt(1, 200)))
    assert first.answer() == cold_answer(asked(prompt(1, 200), tokens=900))
    assert served.cached == 192


def test_two_clips_never_share_however_alike_their_ids_are(served: Served) -> None:
    question = [*prompt(1, 20), *AUDIO, *prompt(2, 20)]
    one, other = clip(1), clip(1)
    other[-1] += 1
    assert served.computed(asked(question, table=one)) == 80
    assert served.computed(asked(question, table=other)) == 80 - 48  # they differ from token 59 on
    assert served.computed(asked(question, table=clip(2))) == 80 - 16  # the text before the clip
    assert served.computed(asked(question, table=one)) == 16


def test_a_clip_is_known_wherever_it_stands_in_the_table(served: Served) -> None:
    served.computed(asked([*AUDIO, *prompt(1, 20)], table=clip(1)))
    later = [row + 7 for row in AUDIO]
    table = np.concatenate([clip(9, 7), clip(1)])
    assert served.computed(asked([*later, *prompt(2, 20)], table=table)) == 60 - 32


def test_adapters_never_share(served: Served) -> None:
    plain = asked(prompt(1, 64))
    served.computed(plain)
    for name in ("think", "other", "None"):
        assert served.computed(replace(plain, adapter=name)) == 64
        assert served.computed(replace(plain, adapter=name)) == 16
    assert served.computed(plain) == 16


def test_what_was_used_least_recently_goes_first_and_the_end_of_a_prompt_before_its_beginning(
    small: Served,
) -> None:
    first, second = asked(prompt(1, 65), 1), asked(prompt(2, 65), 1)  # four blocks each: full
    for one in (first, second, first):
        small.computed(one)
    small.computed(asked(prompt(3, 33), 1))  # two blocks
    assert small.computed(first) == 1
    assert small.computed(second) == 33  # of its four blocks the first two are left
    assert small.stats[-1].prefix_bytes == 8 * BLOCK_BYTES


def test_a_known_prompt_that_goes_on_pushes_out_others_and_not_its_own_beginning(small: Served) -> None:
    known, other = asked(prompt(1, 65), 1), asked(prompt(2, 65), 1)  # four blocks each: full
    small.computed(known)
    small.computed(other)
    longer = asked([*prompt(1, 64), *prompt(3, 65)], 1)
    small.computed(longer)
    assert small.computed(longer) == 1
    assert small.computed(known) == 1


def test_a_cache_never_holds_more_than_it_may(small: Served) -> None:
    for seed in range(30):
        small.computed(asked(prompt(seed, 20 + 11 * seed), tokens=20))
        assert small.stats[-1].prefix_bytes <= 8 * BLOCK_BYTES


def test_of_a_prompt_longer_than_the_cache_the_beginning_is_kept(small: Served) -> None:
    small.computed(asked(prompt(1, 400)))
    assert small.computed(asked(prompt(1, 400))) == 400 - 8 * BLOCK_TOKENS


def test_a_prompt_that_was_stopped_while_it_was_read_leaves_only_what_is_right(served: Served) -> None:
    busy = served.submit(asked(prompt(7, 20), tokens=1500))
    assert busy.started.wait(30)
    stopped = served.submit(asked(prompt(1, 1500)))
    served.scheduler.stop("2")
    stopped.ended.wait(30)
    served.scheduler.stop("1")
    busy.answer()
    assert served.computed(asked(prompt(1, 1500))) <= 1500


def test_a_decoder_that_fails_within_a_prompt_leaves_nothing_of_that_part(served: Served) -> None:
    served.decoder.fails_after = 100
    assert isinstance(served.submit(asked(prompt(1, 300))).failure(), RuntimeError)
    served.decoder.fails_after = None
    assert served.computed(asked(prompt(1, 300))) == 300 - 96  # three parts of 32 had been read


def test_a_cache_of_nothing_keeps_nothing() -> None:
    served = Served(0)
    assert [served.computed(asked(prompt(1, 100))) for _ in range(2)] == [100, 100]
    served.scheduler.close()
    assert served.stats[-1] == EngineStats(0.0, 200, 0, 0, 0, generated_tokens=6)


@pytest.mark.parametrize("blocks", [0, 3, 20, 1000])
def test_whatever_comes_together_is_stopped_or_fails_every_answer_is_that_of_a_cold_run(blocks: int) -> None:
    served = Served(blocks * BLOCK_BYTES, prefill_tokens=24)
    draw = np.random.default_rng(blocks)
    families = [prompt(seed, 150) for seed in range(3)]
    running: list[tuple[Generation, Heard, bool]] = []
    for number in range(300):
        start = families[draw.integers(3)][: int(draw.integers(1, 150))]
        table = clip(int(draw.integers(3))) if draw.random() < 0.5 else None
        ids = [*start, *(AUDIO if table is not None else []), *prompt(number, int(draw.integers(1, 40)))]
        one = asked(ids, int(draw.integers(1, 30)), table)
        stopped = draw.random() < 0.2
        running.append((one, served.submit(one), stopped))
        if stopped:
            served.scheduler.stop(f"{number + 1}")
        if len(running) > ROWS + 2:
            _check(*running.pop(int(draw.integers(len(running)))))
    for one in running:
        _check(*one)
    assert (served.cached > 0) == (blocks > 0)
    served.scheduler.close()


def _check(one: Generation, listener: Heard, stopped: bool) -> None:
    answer = listener.answer()
    assert answer == cold_answer(one)[: len(answer)]
    assert stopped or len(answer) == one.max_new_tokens


def test_what_the_model_cannot_hold_is_refused_before_anything_is_kept(served: Served) -> None:
    with pytest.raises(RequestError):
        served.submit(asked([VOCABULARY]))
    assert served.computed(asked(prompt(1, 40))) == 40
