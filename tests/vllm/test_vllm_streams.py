"""Streams, cancellation and repeated questions on the vLLM leaf: what holds for the other one holds here."""

from __future__ import annotations

import statistics

import pytest

from serving.door.door import Door
from tests.e2e.test_same_clip_again import (  # noqa: F401  the same tests, on the server of this folder
    test_clips_that_come_back_mixed_and_at_once_are_never_mistaken,
)
from tests.e2e.test_streams import (  # noqa: F401
    test_a_cancelled_stream_stops_the_llm,
    test_a_hundred_cancelled_and_vanished_clients_leave_nothing_behind,
    test_a_seed_repeats_an_answer_alone_and_in_company,
    test_a_stop_string_ends_the_answer_before_it,
    test_text_is_the_decoding_of_all_ids,
)
from tests.support import scrape
from tests.support.clips import clip
from tests.support.company import thirty_two_streams
from tests.support.wire import Refused, Stream, ask, ids_of

PROMPT, CACHED = "af3_llm_prompt_tokens", "af3_llm_cached_tokens"


def test_the_deltas_of_32_streams_are_in_order_and_complete(url: str) -> None:
    """How many reach the limit depends on vLLM's random numbers."""
    assert sum(len(ids_of(responses)) for responses in thirty_two_streams(url)) > 32 * 50


def first_token_s(url: str, data: bytes) -> float:
    stream = Stream(url, [data], "What do you hear?", parameters={"max_tokens": 2})
    responses = list(stream)
    stream.close()
    return responses[0].received_s - stream.sent_s


def test_a_second_question_about_a_clip_skips_its_encoding_and_its_prefill(url: str, server: Door) -> None:
    clips = [clip(60, seed=70 + number) for number in range(3)]  # 1 500 tokens of audio each
    before = scrape.read(server)
    new = [first_token_s(url, data) for data in clips]
    scrape.wait_until(lambda: scrape.read(server)[PROMPT] >= before[PROMPT] + 3 * 1500)
    middle = scrape.read(server)
    again = [first_token_s(url, data) for data in clips]
    scrape.wait_until(lambda: scrape.read(server)[PROMPT] >= middle[PROMPT] + 3 * 1500)
    after = scrape.read(server)
    assert after["af3_embedding_cache_hits"] == middle["af3_embedding_cache_hits"] + 3 * 2
    assert after[CACHED] - middle[CACHED] >= 0.9 * 3 * 1500
    ratio = statistics.median(new) / statistics.median(again)
    print(
        f"first token, new : again = {ratio:.1f} ({[f'{s:.3f}' for s in new]}, {[f'{s:.3f}' for s in again]} s)"
    )
    assert ratio > 2


def test_a_request_whose_time_is_up_ends_with_deadline_exceeded(url: str, server: Door) -> None:
    """A prompt of ten minutes is not read within 0.3 s."""
    with pytest.raises(Refused) as refused:
        ask(url, [clip(600, seed=80)], "What do you hear?", parameters={"max_tokens": 4, "timeout": 300_000})
    assert refused.value.status == "DEADLINE_EXCEEDED"
    scrape.wait_until(lambda: scrape.read(server)["af3_llm_running"] == 0)
