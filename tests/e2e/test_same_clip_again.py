"""A clip asked about again: the same answer, without the encoder; nobody hears another's clip."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from serving.host.triton import Server
from tests.support import scrape
from tests.support.clips import clip
from tests.support.wire import ask, ids_of

QUESTIONS = ("What do you hear in this clip?", "And now?")
HITS, MISSES = "af3_embedding_cache_hits", "af3_embedding_cache_misses"


def answer(url: str, clips: list[bytes], question: str = QUESTIONS[0]) -> list[int]:
    return ids_of(ask(url, clips, question, parameters={"max_tokens": 24}))


def test_a_clip_asked_about_again_gets_the_same_answer_without_the_encoder(server: Server) -> None:
    long = clip(31.7, seed=901)  # two windows
    before = scrape.settled(server)
    first = answer(server.url, [long])
    missed = scrape.read(server)
    assert missed[MISSES] - before[MISSES] == 2
    assert answer(server.url, [long]) == first
    answer(server.url, [long], QUESTIONS[1])
    after = scrape.read(server)
    assert (after[HITS] - missed[HITS], after[MISSES] - missed[MISSES]) == (4, 0)
    assert after["af3_embedding_cache_bytes"] == missed["af3_embedding_cache_bytes"] > 0


def test_clips_that_come_back_mixed_and_at_once_are_never_mistaken(url: str) -> None:
    clips = [clip(1.5, seed=910 + number) for number in range(6)]
    alone = [answer(url, [one]) for one in clips]
    pair = answer(url, [clips[0], clips[1]])
    assert len({tuple(ids) for ids in alone}) > 1
    with ThreadPoolExecutor(12) as pool:
        again = list(pool.map(partial(answer, url), [[one] for one in clips * 3]))
        pairs = list(pool.map(partial(answer, url), [[clips[0], clips[1]], [clips[1], clips[0]]]))
    assert again == alone * 3
    assert pairs[0] == pair != pairs[1]
