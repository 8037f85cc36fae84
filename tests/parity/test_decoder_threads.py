"""A small model reads prompts on all threads and decodes on one; a large one uses all for both."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from af3.llm import decoder
from af3.llm.decoder import Decoder
from tests.support.engines import BuiltEngines

THREADS = 2
TOKENS = 64


class ThreadSpy:
    """Notes with how many threads sessions are loaded, and with how many each run went."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.loaded: list[int] = []
        self.runs: list[int] = []
        real, spy = decoder.onnxruntime.InferenceSession, self

        class Session(real):  # type: ignore[misc, valid-type]
            def __init__(self, path: object, options: Any, **other: Any):
                super().__init__(path, options, **other)
                self.threads = options.intra_op_num_threads
                spy.loaded.append(self.threads)

            def run_with_iobinding(self, *given: Any, **named: Any) -> None:
                spy.runs.append(self.threads)
                super().run_with_iobinding(*given, **named)

        monkeypatch.setattr(decoder.onnxruntime, "InferenceSession", Session)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> ThreadSpy:
    return ThreadSpy(monkeypatch)


def answer(engines: BuiltEngines, threads: int) -> Sequence[np.ndarray]:
    made = Decoder(engines.engines / "llm", 1, TOKENS, threads)
    prompt = made.embed(np.arange(20), None)
    first = made.prefill(0, prompt, 0)
    return first, made.decode(np.array([first.argmax()]), np.array([20])).copy()


def test_a_small_model_decodes_on_one_thread(engines: BuiltEngines, spy: ThreadSpy) -> None:
    found = answer(engines, THREADS)
    assert spy.loaded == [THREADS, 1] and spy.runs == [THREADS, 1]
    for on_two, on_one in zip(found, answer(engines, 1), strict=True):
        assert np.array_equal(on_two, on_one)


def test_one_thread_needs_no_second_session(engines: BuiltEngines, spy: ThreadSpy) -> None:
    answer(engines, 1)
    assert spy.loaded == [1] and spy.runs == [1, 1]


def test_a_large_model_decodes_on_all_threads(
    engines: BuiltEngines, spy: ThreadSpy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "ONE_THREAD_BYTES", 0)
    answer(engines, THREADS)
    assert spy.loaded == [THREADS] and spy.runs == [THREADS, THREADS]
