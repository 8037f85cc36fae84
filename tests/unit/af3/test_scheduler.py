"""In-flight batching without a model: rows, queue, stops, deadlines and failures.

Long because its cases share one stand-in decoder.
"""

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from af3.errors import RequestError
from af3.llm.scheduler import LEAST_PREFILL, PREFILL_PAIRS, Scheduler, shared_part
from tests.support.echo_decoder import VOCABULARY, WAIT_S, EchoDecoder, Heard, generation
from tests.support.recalling_decoder import RecallingDecoder, cold_answer

ROWS = 4
QUEUE = 20


@pytest.fixture
def decoder() -> EchoDecoder:
    return EchoDecoder(ROWS)


@pytest.fixture
def scheduler(decoder: EchoDecoder) -> Iterator[Scheduler]:
    running = Scheduler(decoder, QUEUE, prefill_tokens=1)  # prompts are read while others decode
    yield running
    decoder.go_on.set()
    running.close()


def submit(scheduler: Scheduler, *asked: object) -> list[Heard]:
    listeners = [Heard() for _ in asked]
    for one, listener in zip(asked, listeners, strict=True):
        scheduler.submit(one, listener)
    return listeners


def counting(first: int, count: int) -> list[int]:
    """The answer to a prompt that ends with `first`."""
    return [(first + place) % VOCABULARY for place in range(1, count + 1)]


def test_a_long_prompt_is_read_in_ever_smaller_parts_while_others_decode() -> None:
    before = (0, 512, 4_000, 14_000)
    parts = [shared_part(256, read) for read in before]
    assert parts == sorted(parts, reverse=True) and parts[0] == 256 > parts[-1]
    assert all(part * (read + part) <= PREFILL_PAIRS for part, read in zip(parts, before, strict=True))
    assert shared_part(256, 10**6) == LEAST_PREFILL


def test_only_a_prompt_that_delays_others_is_read_in_smaller_parts(
    decoder: EchoDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("af3.llm.scheduler.PREFILL_PAIRS", 16)
    monkeypatch.setattr("af3.llm.scheduler.LEAST_PREFILL", 2)
    scheduler = Scheduler(decoder, QUEUE, prefill_tokens=16)
    (first,) = submit(scheduler, generation("decoding", range(20), tokens=10_000 - 20))
    assert first.started.wait(WAIT_S)
    assert decoder.prefills == [(0, 16), (0, 4)]
    del decoder.prefills[:]
    submit(scheduler, generation("beside", range(20), tokens=2))[0].answer()
    assert decoder.prefills == [(1, 2)] * 10
    scheduler.close()


def test_a_short_prompt_is_read_before_the_rest_of_a_long_one(
    decoder: EchoDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(decoder, QUEUE, prefill_tokens=16)
    read, short = decoder.prefill, Heard()

    def read_and_submit(row: int, embeddings: np.ndarray, past: int) -> np.ndarray:
        if not decoder.prefills:
            scheduler.submit(generation("short", range(5), 3), short)
        return read(row, embeddings, past)

    monkeypatch.setattr(decoder, "prefill", read_and_submit)
    (long,) = submit(scheduler, generation("long", [7] * 9_000, 4))
    assert short.answer() == counting(4, 3)
    assert long.answer() == counting(7, 4)
    assert [size for _, size in decoder.prefills].index(5) <= 2
    scheduler.close()


def test_a_prompt_that_is_no_shorter_waits_and_then_finds_its_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = RecallingDecoder()
    scheduler = Scheduler(decoder, QUEUE, prefill_tokens=16, prefix_cache_bytes=1 << 20)
    read, second = decoder.prefill, Heard()
    asked = [generation(name, [7] * 400, 3) for name in ("first", "second")]

    def read_and_submit(row: int, embeddings: np.ndarray, past: int) -> np.ndarray:
        if not decoder.computed:
            scheduler.submit(asked[1], second)
        return read(row, embeddings, past)

    monkeypatch.setattr(decoder, "prefill", read_and_submit)
    (first,) = submit(scheduler, asked[0])
    assert first.answer() == second.answer() == cold_answer(asked[0])
    assert decoder.computed == 400 + 16
    scheduler.close()


@pytest.mark.parametrize("seed", range(20))
def test_prompts_that_are_read_in_turns_get_the_answers_they_get_alone(seed: int) -> None:
    chance = np.random.default_rng(seed)
    decoder = RecallingDecoder(ROWS)
    scheduler = Scheduler(decoder, 40, prefill_tokens=16, prefix_cache_bytes=int(chance.choice((0, 1 << 20))))
    asked = [
        generation(
            f"{number}",
            chance.integers(0, 101, int(chance.choice((1, 20, 300, 900)))).tolist(),
            int(chance.integers(1, 40)),
        )
        for number in range(24)
    ]
    listeners = submit(scheduler, *asked)
    stopped = {f"{number}" for number in chance.choice(24, 4, replace=False)}
    for name in stopped:
        scheduler.stop(name)
    for one, listener in zip(asked, listeners, strict=True):
        answer = listener.answer()
        assert answer == cold_answer(one)[: len(answer)]
        assert len(answer) == one.max_new_tokens or one.request_id in stopped
    scheduler.close()


# Rows


@pytest.mark.parametrize("ended", [(0,), (3,), (0, 1), (1, 2), (0, 3), (2, 3), (0, 1, 2), (0, 1, 2, 3)])
def test_sequences_that_end_in_the_same_step_free_the_right_rows(
    scheduler: Scheduler, decoder: EchoDecoder, ended: tuple[int, ...]
) -> None:
    decoder.go_on.clear()
    # Row n gets its first token n steps later: one prompt is read a turn.
    tokens = [12 - row if row in ended else 40 for row in range(ROWS)]
    listeners = submit(scheduler, *(generation(f"{row}", [row], tokens[row]) for row in range(ROWS)))
    late = submit(scheduler, *(generation(f"late{row}", range(row, 5 + row), 9) for row in range(3)))
    decoder.go_on.set()
    assert [listener.answer() for listener in listeners] == [
        counting(row, tokens[row]) for row in range(ROWS)
    ]
    assert [listener.answer() for listener in late] == [counting(4 + row, 9) for row in range(3)]


def test_the_last_running_row_may_end_while_a_prompt_is_read(scheduler: Scheduler) -> None:
    for tokens in range(1, 12):
        short, late = submit(
            scheduler,
            generation(f"short{tokens}", [1], tokens),
            generation(f"late{tokens}", range(1, 30), 3),
        )
        assert short.answer() == counting(1, tokens)
        assert late.answer() == counting(29, 3)


def test_a_row_in_the_middle_may_be_stopped_while_a_prompt_is_read(
    scheduler: Scheduler, decoder: EchoDecoder
) -> None:
    decoder.go_on.clear()
    running = submit(scheduler, *(generation(f"{row}", [10 * row], 200) for row in range(ROWS - 1)))
    (late,) = submit(scheduler, generation("late", range(40), 5))
    assert decoder.decoding.wait(WAIT_S)
    decoder.go_on.set()
    assert running[1].started.wait(WAIT_S)
    scheduler.stop("1")
    stopped = running[1].answer()
    assert stopped == counting(10, len(stopped)) and len(stopped) < 200
    assert running[0].answer() == counting(0, 200)
    assert running[2].answer() == counting(20, 200)
    assert late.answer() == counting(39, 5)


def test_a_stopped_request_frees_its_row_for_the_next(scheduler: Scheduler) -> None:
    listeners = submit(scheduler, *(generation(f"{row}", [row], 400) for row in range(ROWS)))
    (following,) = submit(scheduler, generation("next", [9], 5))
    assert all(listener.started.wait(WAIT_S) for listener in listeners)
    scheduler.stop("1")
    assert len(listeners[1].answer()) < 400
    assert following.answer() == counting(9, 5)
    assert [len(listeners[row].answer()) for row in (0, 2, 3)] == [400] * 3


# How an answer ends


def test_an_answer_has_as_many_tokens_as_were_asked_for(scheduler: Scheduler) -> None:
    listeners = submit(scheduler, *(generation(f"{count}", [0], count) for count in (1, 2, 3)))
    assert [listener.answer() for listener in listeners] == [counting(0, count) for count in (1, 2, 3)]


@pytest.mark.parametrize("before", [0, 1, 5])
def test_an_end_token_ends_the_answer_and_is_no_part_of_it(scheduler: Scheduler, before: int) -> None:
    (listener,) = submit(scheduler, generation("a", [4], 9, end_id=5 + before))
    assert listener.answer() == counting(4, before)


def test_a_stop_word_ends_the_answer_and_is_part_of_it(scheduler: Scheduler) -> None:
    (listener,) = submit(scheduler, generation("a", [4], 9, stop_words=((50,), (6, 7))))
    assert listener.answer() == [5, 6, 7]


# Ids and stops


def test_an_id_in_use_is_refused_and_free_again_after_the_answer(
    scheduler: Scheduler, decoder: EchoDecoder
) -> None:
    decoder.go_on.clear()
    (first,) = submit(scheduler, generation("same", [0], 3))
    for _ in range(2):  # while it waits, and while it decodes
        with pytest.raises(RequestError, match="in use") as refused:
            scheduler.submit(generation("same", [0]), Heard())
        assert refused.value.status == "ALREADY_EXISTS"
        assert decoder.decoding.wait(WAIT_S)
    decoder.go_on.set()
    first.answer()
    (again,) = until_accepted(scheduler, "same")
    assert again.answer() == counting(0, 2)


def until_accepted(scheduler: Scheduler, name: str) -> list[Heard]:
    """Submit; the id is free just after the last token has been told, not before."""
    while True:
        try:
            return submit(scheduler, generation(name, [0], 2))
        except RequestError as error:
            assert error.status == "ALREADY_EXISTS"


def test_a_stop_that_comes_too_late_does_not_end_the_next_request_of_that_id(decoder: EchoDecoder) -> None:
    again = Heard()
    stopped = threading.Event()

    def report(running: int, waiting: int) -> None:
        if (running, waiting) == (0, 0) and stopped.is_set():  # the first has just ended
            stopped.clear()
            scheduler.submit(generation("a", [1], 5), again)

    decoder.go_on.clear()
    scheduler = Scheduler(decoder, QUEUE, 16, report)
    (first,) = submit(scheduler, generation("a", [1], 2))
    assert decoder.decoding.wait(WAIT_S)  # its second and last token
    stopped.set()
    scheduler.stop("a")
    decoder.go_on.set()
    assert first.answer() == counting(1, 2)
    assert again.answer() == counting(1, 5)
    scheduler.close()


def test_an_id_is_free_again_after_a_prompt_that_could_not_be_embedded(
    scheduler: Scheduler, decoder: EchoDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(ids: np.ndarray, table: np.ndarray | None) -> np.ndarray:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(decoder, "embed", no_memory)
        assert isinstance(submit(scheduler, generation("a", [1], 2))[0].failure(), MemoryError)
    assert submit(scheduler, generation("a", [1], 2))[0].answer() == counting(1, 2)


def test_a_waiting_request_that_is_stopped_ends_without_tokens(
    scheduler: Scheduler, decoder: EchoDecoder
) -> None:
    decoder.go_on.clear()
    running = submit(scheduler, *(generation(f"{row}", [row], 30) for row in range(ROWS)))
    waiting = submit(scheduler, *(generation(f"w{place}", [place], 3) for place in range(3)))
    scheduler.stop("w1")
    decoder.go_on.set()
    assert waiting[1].answer() == []
    assert [waiting[place].answer() for place in (0, 2)] == [counting(0, 3), counting(2, 3)]
    assert all(len(listener.answer()) == 30 for listener in running)


class Id(str):
    """A request id that calls `meanwhile` once when it is looked for, as another thread might submit just then."""

    meanwhile: Callable[[], object] | None = None

    def __hash__(self) -> int:
        self._looked_for()
        return str.__hash__(self)

    def __eq__(self, other: object) -> bool:
        self._looked_for()
        return str.__eq__(self, other)

    @staticmethod
    def _looked_for() -> None:
        if Id.meanwhile:
            arrives, Id.meanwhile = Id.meanwhile, None
            thread = threading.Thread(target=arrives)
            thread.start()
            thread.join(0.5)


def test_a_stopped_waiter_never_harms_those_that_run(scheduler: Scheduler, decoder: EchoDecoder) -> None:
    decoder.go_on.clear()
    running = submit(scheduler, *(generation(f"run{row}", [row], 50) for row in range(ROWS)))
    assert decoder.decoding.wait(WAIT_S)  # from here on the scheduler looks at no stop
    submit(scheduler, generation(Id("first"), [1], 1), generation(Id("second"), [1], 1))
    scheduler.stop("second")
    third = Heard()
    Id.meanwhile = lambda: scheduler.submit(generation("third", [1], 1), third)
    decoder.go_on.set()
    assert [listener.answer() for listener in running] == [counting(row, 50) for row in range(ROWS)]
    assert third.answer() == counting(1, 1)


def test_many_threads_that_submit_and_stop_never_fail_an_answer(decoder: EchoDecoder) -> None:
    """The race behind the test above, with real threads."""
    scheduler = Scheduler(decoder, QUEUE, 16)
    failures: list[Exception] = []

    def client(place: int) -> None:
        for turn in range(150):
            listener = Heard()
            name = f"{place}-{turn}"
            try:
                scheduler.submit(generation(name, [place], 30), listener)
            except RequestError:
                continue
            if turn % 3:
                scheduler.stop(name)
            assert listener.ended.wait(WAIT_S)
            if listener.error is not None:
                failures.append(listener.error)

    threads = [threading.Thread(target=client, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scheduler.close()
    assert failures == []


# Clients that leave, deadlines, limits


def test_a_client_that_left_is_noticed(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("af3.llm.unwanted.CHECK_S", 0.0)
    (listener,) = submit(scheduler, generation("left", [0], 9_000))
    assert listener.started.wait(WAIT_S)
    listener.gone = True
    assert len(listener.answer()) < 9_000


def test_a_deadline_ends_a_request_that_waits(scheduler: Scheduler, decoder: EchoDecoder) -> None:
    decoder.go_on.clear()
    kept = submit(scheduler, *(generation(f"{row}", [row], 40, timeout_s=60) for row in range(ROWS)))
    late, patient = submit(
        scheduler, generation("late", [0], 4, timeout_s=0.0), generation("patient", [3], 4, timeout_s=60)
    )
    decoder.go_on.set()
    error = late.failure()
    assert isinstance(error, RequestError) and error.status == "DEADLINE_EXCEEDED"
    assert [listener.answer() for listener in kept] == [counting(row, 40) for row in range(ROWS)]
    assert patient.answer() == counting(3, 4)
    assert submit(scheduler, generation("late", [0], 5))[0].answer() == counting(0, 5)


def test_a_deadline_ends_a_request_whose_prompt_is_still_read(
    scheduler: Scheduler, decoder: EchoDecoder
) -> None:
    decoder.go_on.clear()
    running, reading = submit(
        scheduler, generation("running", [1], 30), generation("reading", range(60), 5, timeout_s=0.2)
    )
    assert decoder.decoding.wait(WAIT_S)
    threading.Timer(0.3, decoder.go_on.set).start()  # past the deadline
    assert isinstance(reading.failure(), RequestError)
    assert running.answer() == counting(1, 30)


def test_an_answer_that_has_begun_is_not_ended_by_its_deadline(
    scheduler: Scheduler, decoder: EchoDecoder
) -> None:
    decoder.go_on.clear()
    (listener,) = submit(scheduler, generation("a", [1], 10, timeout_s=1))
    assert decoder.decoding.wait(WAIT_S)
    threading.Timer(1.1, decoder.go_on.set).start()  # past the deadline
    assert listener.answer() == counting(1, 10)


def test_a_full_queue_is_a_clear_error(scheduler: Scheduler, decoder: EchoDecoder) -> None:
    (first,) = submit(scheduler, generation("first", [0], 400))
    first.go_on.clear()
    assert first.started.wait(WAIT_S)
    waiting = submit(scheduler, *(generation(f"{place}", [place], 3) for place in range(QUEUE)))
    with pytest.raises(RequestError, match="queue is full") as refused:
        scheduler.submit(generation("late", [0]), Heard())
    assert refused.value.status == "UNAVAILABLE"
    first.go_on.set()
    assert [listener.answer() for listener in waiting] == [counting(place, 3) for place in range(QUEUE)]


@pytest.mark.parametrize(
    ("ids", "tokens", "cause"),
    [
        ([], 5, "empty"),
        ([VOCABULARY], 5, "outside"),
        ([-1], 5, "outside"),
        ([1] * 9_990, 11, "10000"),
        ([1], 0, "at least 1"),
    ],
)
def test_what_would_break_the_batch_is_refused(
    scheduler: Scheduler, ids: list[int], tokens: int, cause: str
) -> None:
    with pytest.raises(RequestError, match=cause):
        scheduler.submit(generation("bad", ids, tokens), Heard())


def test_prompt_and_answer_may_fill_a_sequence_to_its_last_token(scheduler: Scheduler) -> None:
    (listener,) = submit(scheduler, generation("full", [1] * 9_998, 2))
    assert listener.answer() == counting(1, 2)


@pytest.mark.parametrize(("ids", "good"), [([VOCABULARY + 1], True), ([VOCABULARY + 2], False)])
def test_ids_past_the_vocabulary_are_rows_of_the_table_and_no_more(
    scheduler: Scheduler, ids: list[int], good: bool
) -> None:
    asked = generation("table", [*ids, 1], 2, table=np.zeros((2, 1), np.float32))
    if good:
        assert submit(scheduler, asked)[0].answer() == counting(1, 2)
        return
    with pytest.raises(RequestError, match=f"outside 0…{VOCABULARY + 1}"):
        submit(scheduler, asked)


def test_a_table_of_another_width_is_refused(scheduler: Scheduler) -> None:
    with pytest.raises(RequestError, match="prompt_embedding_table"):
        submit(scheduler, generation("bad", [0], 5, table=np.zeros((1, 3), np.float32)))


# Failures and the end


def test_a_decoder_that_fails_fails_its_requests_and_serves_the_next(
    scheduler: Scheduler, decoder: EchoDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(decoder, "decode", lambda ids, lengths: 1 / 0)
        (listener,) = submit(scheduler, generation("unlucky", [0]))
        assert isinstance(listener.failure(), ZeroDivisionError)
    assert submit(scheduler, generation("lucky", [0], 5))[0].answer() == counting(0, 5)


def test_closing_fails_what_is_in_flight_and_what_comes_after(decoder: EchoDecoder) -> None:
    closing = Scheduler(decoder, QUEUE, 16)
    listeners = submit(closing, *(generation(f"{place}", [place], 9_000) for place in range(ROWS + 2)))
    assert listeners[0].started.wait(WAIT_S)
    closing.close()
    for listener in listeners:
        error = listener.failure()
        assert isinstance(error, RequestError) and error.status == "UNAVAILABLE"
    late = Heard()
    with pytest.raises(RequestError, match="shutting down"):
        closing.submit(generation("late", [0]), late)


def test_running_and_waiting_counts_are_reported_in_order() -> None:
    seen: list[tuple[int, int]] = []
    decoder = EchoDecoder(2)
    decoder.go_on.clear()
    scheduler = Scheduler(decoder, QUEUE, 16, lambda running, waiting: seen.append((running, waiting)))
    listeners = submit(scheduler, *(generation(f"{place}", [place], 5) for place in range(3)))
    decoder.go_on.set()
    for listener in listeners:
        listener.answer()
    scheduler.close()
    assert (2, 1) in seen and seen[-1] == (0, 0)
    assert all(running <= 2 for running, _ in seen)
