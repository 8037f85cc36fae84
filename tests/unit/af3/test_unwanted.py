"""Requests that are dropped before their answer ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from af3.errors import RequestError
from af3.llm.intake import Intake
from af3.llm.sampling import SamplingSettings
from af3.llm.sequence import Generation
from af3.llm.unwanted import Unwanted


class Answer:
    """Fails when it is used after its end, as Triton does."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.ended = False

    def tokens(self, ids: Sequence[int], final: bool) -> None:
        assert not self.ended
        self.ended = final

    def failed(self, error: Exception) -> None:
        assert not self.ended
        self.error, self.ended = error, True

    def cancelled(self) -> bool:
        assert not self.ended, "asked whether the client of an answer that has ended is there"
        return False


@dataclass(eq=False)
class Running:
    generation: Generation
    listener: Answer
    begun: bool


def running(intake: Intake, request_id: str, begun: bool) -> Running:
    generation = Generation(
        request_id=request_id,
        input_ids=np.array([1], np.int32),
        table=None,
        max_new_tokens=4,
        end_id=None,
        stop_words=(),
        sampling=SamplingSettings(),
        timeout_s=1e-9,
    )
    intake.submit(generation, Answer())
    intake.next()
    return Running(generation, Answer(), begun)


@pytest.mark.parametrize("stopped", [False, True])
def test_an_answer_that_has_failed_is_asked_nothing_more(stopped: bool) -> None:
    """Its time is up without a token; Triton has freed what its client's presence is read from."""
    intake = Intake(max_queue=4)
    late, speaking = running(intake, "late", begun=False), running(intake, "speaking", begun=True)
    if stopped:
        intake.stop("late")
    released: list[Running] = []
    Unwanted(intake).drop([late, speaking], released.append)
    assert released == [late]
    assert isinstance(late.listener.error, RequestError)
    assert late.listener.error.status == "DEADLINE_EXCEEDED"
    assert not speaking.listener.ended
