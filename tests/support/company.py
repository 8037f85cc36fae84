"""Requests answered together and alone."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.support.clips import clip
from tests.support.wire import Response, ask, ids_of


def assert_eight_are_answered_as_alone(url: str, step_s: float, max_tokens: int) -> None:
    """Ask eight questions about clips of 0.4 s, 0.4 s + step_s … one after another, then all at once."""
    requests = [([clip(0.4 + step_s * place, seed=30 + place)], f"Question {place}?") for place in range(8)]
    answer = partial(_answer, url, max_tokens)
    alone = list(map(answer, requests))
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(answer, requests))
    assert together == alone
    assert len(set(map(tuple, alone))) > 1


def _answer(url: str, max_tokens: int, request: tuple[list[bytes], str]) -> list[int]:
    return ids_of(ask(url, *request, parameters={"max_tokens": max_tokens}))


def thirty_two_streams(url: str) -> list[list[Response]]:
    """Ask for 32 sampled answers of up to 300 tokens at once; check that each is in order and complete."""

    def stream(place: int) -> list[Response]:
        parameters = {"max_tokens": 300, "temperature": 1.5, "seed": place}
        return ask(url, [clip(0.3, seed=place)], "Go on.", parameters=parameters)

    with ThreadPoolExecutor(32) as pool:
        streams = list(pool.map(stream, range(32)))
    for responses in streams:
        assert [response.index for response in responses] == list(range(len(responses)))
        assert [response.finish_reason for response in responses[:-1]] == [""] * (len(responses) - 1)
        assert responses[-1].finish_reason in {"length", "stop"}
        assert responses[-1].token_count == len(ids_of(responses))
    return streams
