"""When a process of vLLM dies, the supervisor replaces the server, and clients are told what to do until then."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial

import pytest

from serving.host.patience import Patience
from tests.support import scrape
from tests.support.clips import clip
from tests.support.long_answer import long_answer
from tests.support.processes import alive, children, title
from tests.support.supervised import Supervised
from tests.support.vllm import START_TIMEOUT_S
from tests.support.wire import Refused, Stream, ask, ids_of
from tests.vllm.conftest import Built

PATIENCE = Patience(start=START_TIMEOUT_S, probe_every=1, drain=1)
QUESTION = "What do you hear in this clip?"


@pytest.fixture(scope="module")
def supervised(built: Built) -> Iterator[Supervised]:
    running = Supervised(built.folder, "vllm", PATIENCE)
    running.until(lambda: running.door.admission.ready)
    yield running
    running.close()


def below_llm(supervised: Supervised) -> set[int]:
    """vLLM's processes: those that the `llm` step has started."""
    assert supervised.server is not None
    steps = [pid for pid, step in supervised.server.steps().items() if step == "llm"]
    return {pid for step in steps for pid in children(step)}


@pytest.mark.timeout(3 * START_TIMEOUT_S)
def test_a_killed_engine_process_is_replaced_and_answers_as_before(supervised: Supervised) -> None:
    heard = [clip(3, seed=90)]
    before = ids_of(ask(supervised.door.url, heard, QUESTION, parameters={"max_tokens": 16}))
    going_on = partial(Stream, supervised.door.url, prompt="Go on.")
    long, _ = long_answer(lambda parameters: ids_of(list(going_on(parameters=parameters))), 500)
    processes = below_llm(supervised)
    engine = next(pid for pid in processes if "EngineCore" in title(pid))
    responses = iter(going_on(parameters=long))
    next(responses)

    os.kill(engine, signal.SIGKILL)
    with pytest.raises(Refused) as refused:
        list(responses)
    assert refused.value.status == "UNAVAILABLE"
    supervised.until(lambda: len(supervised.supervisor.restarts) == 1)
    assert "llm" in supervised.supervisor.restarts[0]
    scrape.wait_until(lambda: not any(map(alive, processes)))

    supervised.until(lambda: supervised.door.admission.ready)
    assert ids_of(ask(supervised.door.url, heard, QUESTION, parameters={"max_tokens": 16})) == before
    assert below_llm(supervised).isdisjoint(processes)
