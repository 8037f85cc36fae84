"""The side of the `llm` step, against a stand-in that speaks what vLLM's process speaks; vLLM itself: tests/vllm."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from af3.errors import RequestError
from af3.llm.interface import EngineStats
from af3.llm.sampling import SamplingSettings
from af3.llm.sequence import Generation
from af3.llm.vllm_engine import EngineLost, VllmEngine, wanted_message
from af3.llm.vllm_wire import EngineSettings
from tests.support import scrape
from tests.support.tiny import MODEL, manifest

REPOSITORY = Path(__file__).parents[3]
REFUSED, SILENT, DEADLY, ANSWERED = 1, 2, 3, 4
SLOTS, QUEUE = 2, 2


class Answer:
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.error: Exception | None = None
        self.gone = False
        self.done = threading.Event()

    def tokens(self, ids: Sequence[int], final: bool) -> None:
        self.ids.extend(ids)
        if final:
            self.done.set()

    def failed(self, error: Exception) -> None:
        self.error = error
        self.done.set()

    def cancelled(self) -> bool:
        return self.gone

    def wait(self) -> list[int]:
        assert self.done.wait(20)
        if self.error is not None:
            raise self.error
        return self.ids


class Observed:
    def __init__(self) -> None:
        self.now = 0, 0
        self.last: EngineStats | None = None
        self.was_lost = threading.Event()
        self.turns: list[bool] = []

    def counts(self, running: int, waiting: int) -> None:
        self.now = running, waiting

    def turned(self, busy: bool) -> None:
        self.turns.append(busy)

    def stats(self, stats: EngineStats) -> None:
        self.last = stats

    def lost(self) -> None:
        self.was_lost.set()


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
def start(tmp_path: Path, observed: Observed) -> Callable[[str], VllmEngine]:
    python = tmp_path / "python"
    stand_in = REPOSITORY / "tests" / "support" / "vllm_stand_in.py"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {stand_in} "$3" "$4"\n')
    python.chmod(0o755)

    def started(model: str) -> VllmEngine:
        settings = EngineSettings(
            model, "cpu", "float32", None, 2000, SLOTS, 64, 1.0, 0.8, 1, 1, adapters={"think": "folder"}
        )
        return VllmEngine(python, manifest(), settings, QUEUE, observed)

    return started


@pytest.fixture
def engine(start: Callable[[str], VllmEngine]) -> Iterator[VllmEngine]:
    running = start("model")
    yield running
    running.close()


def generation(request_id: str, first: int = ANSWERED, tokens: int = 5, **changes: object) -> Generation:
    settings: dict[str, object] = {
        "input_ids": np.array([first, 7, 8], np.int32),
        "table": None,
        "max_new_tokens": tokens,
        "end_id": None,
        "stop_words": (),
        "sampling": SamplingSettings(),
    }
    return Generation(request_id=request_id, **(settings | changes))  # type: ignore[arg-type]


def in_group(group: int) -> list[str]:
    """Processes of a group that are alive."""
    stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
    return [state for state, _, found, *_ in stats if int(found) == group and state != "Z"]


def submit(engine: VllmEngine, wanted: Generation) -> Answer:
    answer = Answer()
    engine.submit(wanted, answer)
    return answer


def test_tokens_come_back_to_who_asked(engine: VllmEngine, observed: Observed) -> None:
    answers = [
        submit(engine, generation(str(size), input_ids=np.full(size, ANSWERED, np.int32))) for size in (3, 9)
    ]
    assert [answer.wait() for answer in answers] == [[3, 4, 5, 6, 7], [9, 10, 11, 12, 13]]
    scrape.wait_until(lambda: observed.now == (0, 0))
    assert observed.last == EngineStats(0.5, 10, 4, 1, generated_tokens=7)


def test_an_end_token_is_no_part_of_the_answer_and_a_stop_word_is(engine: VllmEngine) -> None:
    assert submit(engine, generation("end", tokens=50, end_id=6)).wait() == [3, 4, 5]
    assert submit(engine, generation("word", tokens=50, stop_words=((9,), (4, 5)))).wait() == [3, 4, 5]


def test_audio_is_sent_as_rows_of_the_table_and_their_places() -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    ids = np.array([5, MODEL.vocab_size + 2, 6, MODEL.vocab_size], np.int32)
    message, sent = wanted_message(generation("a", input_ids=ids, table=table), MODEL)
    assert message["ids"] == [5, MODEL.audio_token_id, 6, MODEL.audio_token_id]
    assert (message["places"], message["rows"], message["shape"]) == ([1, 3], [2, 0], [3, 4])
    assert sent is not None
    assert np.array_equal(np.frombuffer(sent, np.float32).reshape(3, 4), table)


def test_a_refusal_of_vllm_is_of_one_request_alone(engine: VllmEngine) -> None:
    refused, answered = submit(engine, generation("bad", REFUSED)), submit(engine, generation("good"))
    with pytest.raises(RequestError, match="not this one"):
        refused.wait()
    assert answered.wait() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("how", ["stop", "leave"])
@pytest.mark.parametrize("where", ["running", "waiting"])
def test_an_unwanted_answer_ends_at_once_and_frees_its_id(
    how: str, where: str, engine: VllmEngine, observed: Observed
) -> None:
    busy = [submit(engine, generation(f"busy-{number}", SILENT)) for number in range(SLOTS)]
    scrape.wait_until(lambda: observed.now == (SLOTS, 0))
    unwanted, name = (
        (busy[0], "busy-0") if where == "running" else (submit(engine, generation("late")), "late")
    )
    if how == "stop":
        engine.stop(name)
    else:
        unwanted.gone = True
    assert unwanted.wait() == []
    engine.stop("busy-0")
    assert submit(engine, generation(name)).wait()


def test_the_heartbeat_advances_only_while_vllm_sends_messages(
    engine: VllmEngine, observed: Observed
) -> None:
    submit(engine, generation("spoken")).wait()
    scrape.wait_until(lambda: observed.now == (0, 0) and observed.turns[-1:] == [False])
    assert True in observed.turns
    submit(engine, generation("silent", SILENT))
    scrape.wait_until(lambda: observed.now == (1, 0) and observed.turns[-1])
    turns = len(observed.turns)
    time.sleep(0.3)  # six looks of the engine's thread
    assert len(observed.turns) == turns


def test_who_waits_for_a_first_token_too_long_is_told_so(engine: VllmEngine, observed: Observed) -> None:
    waiting = [submit(engine, generation(str(number), SILENT, timeout_s=2)) for number in range(SLOTS)]
    scrape.wait_until(lambda: observed.now == (SLOTS, 0))
    waiting.append(submit(engine, generation("queued", timeout_s=0.1)))
    for answer in waiting:
        with pytest.raises(RequestError, match=r"not answered within (2|0\.1) s"):
            answer.wait()
    assert submit(engine, generation("next")).wait()


def test_a_full_queue_an_id_in_use_and_an_unknown_adapter_are_refused(
    engine: VllmEngine, observed: Observed
) -> None:
    for number in range(SLOTS):
        submit(engine, generation(f"run-{number}", SILENT))
    scrape.wait_until(lambda: observed.now == (SLOTS, 0))
    for number in range(QUEUE):
        submit(engine, generation(f"wait-{number}", SILENT))
    for wanted, said in (
        (generation("more"), "queue is full"),
        (generation("run-0"), "is in use"),
        (generation("other", adapter="other"), "there is no 'other'; these engines have: think"),
        (generation("empty", input_ids=np.array([], np.int32)), "input_ids: empty"),
    ):
        with pytest.raises(RequestError, match=said):
            submit(engine, wanted)


def test_when_the_process_ends_everyone_is_told_and_then_the_step(
    start: Callable[[str], VllmEngine], observed: Observed
) -> None:
    engine = start("model")
    group = engine.pid
    running = [submit(engine, generation("silent", SILENT)), submit(engine, generation("deadly", DEADLY))]
    for answer in running:
        with pytest.raises(RequestError, match="engine has ended") as failed:
            answer.wait()
        assert failed.value.status == "UNAVAILABLE"
    assert observed.was_lost.wait(10)
    scrape.wait_until(lambda: not in_group(group))
    with pytest.raises(RequestError, match="shutting down"):
        submit(engine, generation("later"))


def test_closing_fails_what_is_in_flight(start: Callable[[str], VllmEngine], observed: Observed) -> None:
    engine = start("model")
    answers = [submit(engine, generation(str(number), SILENT)) for number in range(SLOTS)]
    scrape.wait_until(lambda: observed.now == (SLOTS, 0))
    answers.append(submit(engine, generation("queued")))
    engine.close()
    for answer in answers:
        with pytest.raises(RequestError, match="shutting down"):
            answer.wait()


def test_a_process_that_does_not_start_is_an_error_with_its_code(start: Callable[[str], VllmEngine]) -> None:
    with pytest.raises(EngineLost, match="ended with code 3"):
        start("broken")
