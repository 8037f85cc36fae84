"""Order, cancellation, sampling and stop strings of live streams."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from serving.door.door import Door
from tests.support import scrape
from tests.support.clips import clip
from tests.support.company import thirty_two_streams
from tests.support.long_answer import LONG, long_answer
from tests.support.oracle import Oracle
from tests.support.wire import Stream, ask, ids_of, text_of

IDLE = ("af3_llm_running", "af3_llm_waiting", "af3_answers_live")
HOT = {"temperature": 1.5, "seed": 1}
OTHERS = 11


def idle(server: Door) -> bool:
    found = scrape.read(server)
    return all(found[name] == 0 for name in IDLE)


def test_the_deltas_of_32_streams_are_in_order_and_complete(url: str) -> None:
    streams = thirty_two_streams(url)
    assert sum(responses[-1].token_count == 300 for responses in streams) >= 16


def test_the_long_answer_is_long(url: str) -> None:
    """Tests that interrupt it rest on that."""
    assert len(ids_of(ask(url, prompt="Go on.", parameters=LONG))) == LONG["max_tokens"]


def test_text_is_the_decoding_of_all_ids(url: str, oracle: Oracle) -> None:
    responses = ask(url, [clip(1, seed=3)], "Go on.", parameters={"max_tokens": 200, **HOT})
    assert text_of(responses) == oracle.text(ids_of(responses))


def test_a_seed_repeats_an_answer_alone_and_in_company(url: str) -> None:
    sampled = partial(ask, url, [clip(1, seed=4)], "Go on.", parameters={"max_tokens": 64, **HOT})
    alone = ids_of(sampled())
    with ThreadPoolExecutor(8) as pool:
        others = [
            pool.submit(ask, url, [clip(0.5, seed=place)], "Other.", parameters={"max_tokens": 90})
            for place in range(7)
        ]
        among = ids_of(pool.submit(sampled).result())
        for other in others:
            other.result()
    assert among == alone
    assert (
        ids_of(ask(url, [clip(1, seed=4)], "Go on.", parameters={"max_tokens": 64, **HOT, "seed": 2}))
        != alone
    )


def test_a_stop_string_ends_the_answer_before_it(url: str, server: Door) -> None:
    parameters = {"max_tokens": 200, **HOT}
    whole = text_of(ask(url, prompt="Go on.", parameters=parameters))
    stop = whole[12:14]
    responses = ask(url, prompt="Go on.", parameters={**parameters, "stop": stop})
    assert text_of(responses) == whole[: whole.index(stop)]
    assert responses[-1].finish_reason == "stop"
    assert responses[-1].token_count < 200
    scrape.wait_until(partial(idle, server))


def test_a_hundred_cancelled_and_vanished_clients_leave_nothing_behind(url: str, server: Door) -> None:
    """All ask the same, and what is answered is known to be long: no answer ends before its client leaves."""
    question = partial(Stream, url, [clip(1, seed=5)], "Go on.")
    long, expected = long_answer(lambda parameters: ids_of(list(question(parameters=parameters))), 1024)
    scrape.wait_until(partial(idle, server))
    before = scrape.settled(server)

    def keep() -> list[int]:
        return ids_of(list(question(parameters={**long, "max_tokens": 300})))

    def leave(place: int) -> None:
        stream = question(parameters=long)
        next(iter(stream))
        stream.cancel() if place % 2 else stream.close()

    with ThreadPoolExecutor(26) as pool:
        kept = [pool.submit(keep) for _ in range(2)]
        list(pool.map(leave, range(100)))
        assert [future.result() for future in kept] == [expected[:300]] * 2
    scrape.wait_until(partial(idle, server))
    left = 'af3_requests_cancelled_total{model="audio_flamingo"}'
    scrape.wait_until(lambda: scrape.read(server)["af3_requests_in_flight"] == 0)
    assert scrape.read(server)[left] - before.get(left, 0) == 100
    assert scrape.read(server)["af3_llm_threads"] == before["af3_llm_threads"]


def test_a_cancelled_stream_stops_the_llm(url: str, server: Door) -> None:
    """Its tokens are its clock, since a busy machine has no milliseconds (`perf.targets cancel` has them).

    Others beside it, which are read to their ends, slow that clock: beside three, six busy programs made one test so
    late that the answer was whole before it was cancelled.
    """
    question = partial(Stream, url, prompt="Go on.")
    long, expected = long_answer(lambda parameters: ids_of(list(question(parameters=parameters))), 1024)
    scrape.wait_until(partial(idle, server))
    generated = "af3_llm_generated_tokens"
    before = scrape.read(server)[generated]
    with ThreadPoolExecutor(OTHERS) as pool:
        others = [pool.submit(lambda: ids_of(list(question(parameters=long)))) for _ in range(OTHERS)]
        stream = question(parameters=long)
        responses = iter(stream)  # kept: one that is dropped closes the connection
        while next(responses).index < 5:
            pass
        stream.cancel()
        assert [other.result() for other in others] == [expected] * OTHERS
    scrape.wait_until(partial(idle, server))
    of_the_answer = scrape.read(server)[generated] - before - OTHERS * len(expected)
    print(f"tokens generated: {of_the_answer:g}")
    assert 5 < of_the_answer < 512  # an answer that nobody stops has 1 024
