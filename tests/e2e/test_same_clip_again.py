"""A clip asked about again: the same answer, without the encoder or reading anew; nobody hears another's clip."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from serving.host.triton import Server
from tests.support import scrape
from tests.support.clips import clip, saved
from tests.support.oracle import Oracle
from tests.support.wire import ask, ids_of, text_of

QUESTIONS = ("What do you hear in this clip?", "And now?")
PROMPT, CACHED = "af3_llm_prompt_tokens", "af3_llm_cached_tokens"
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


def test_a_second_question_and_a_next_turn_read_only_what_is_new_and_are_answered_as_by_transformers(
    server: Server, oracle: Oracle, tmp_path: Path
) -> None:
    path = saved(tmp_path, clip(9.3, seed=930), "again.wav")
    audio, audio_tokens = [path.read_bytes()], 232
    parameters = {"max_tokens": 24}

    def counted(before: dict[str, float]) -> tuple[float, float]:
        after = scrape.settled(server)
        return after[PROMPT] - before[PROMPT], after[CACHED] - before[CACHED]

    before = scrape.settled(server)
    first = ask(server.url, audio, QUESTIONS[0], parameters=parameters)
    assert ids_of(first) == oracle.generate([oracle.user(QUESTIONS[0], path)], 24)
    prompt, cached = counted(before)
    assert cached < audio_tokens < prompt

    before = scrape.settled(server)
    second = ask(server.url, audio, QUESTIONS[1], parameters=parameters)
    assert ids_of(second) == oracle.generate([oracle.user(QUESTIONS[1], path)], 24)
    prompt, cached = counted(before)
    assert audio_tokens <= cached < prompt

    messages = [
        {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": QUESTIONS[0]}]},
        {"role": "assistant", "content": text_of(first)},
        {"role": "user", "content": QUESTIONS[1]},
    ]
    turns = [
        oracle.user(QUESTIONS[0], path),
        oracle.assistant(text_of(first)),
        oracle.user(QUESTIONS[1]),
    ]
    before = scrape.settled(server)
    third = ask(server.url, audio, messages=messages, parameters=parameters)
    assert ids_of(third) == oracle.generate(turns, 24)
    prompt, more = counted(before)
    assert cached < more < prompt
