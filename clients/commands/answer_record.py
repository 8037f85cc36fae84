"""One answer as one JSON object: what `ask --json` prints and `batch` writes."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from ..answer import AnswerSoFar
from ..errors import AudioFlamingoError


@dataclass(frozen=True)
class Record:
    """An answer, or as much of it as came before an error.

    finish_reason: "stop", "length", or "" when there was an error.
    seconds: from the request to the end.
    thinking: the reasoning of a model that thinks before it answers, else empty.
    error: null, or "STATUS: sentence".
    """

    text: str
    finish_reason: str
    token_count: int
    seconds: float
    error: str | None = None
    thinking: str = ""

    def fields(self) -> dict[str, Any]:
        """As a JSON object; without `thinking` where the model did not think."""
        return {name: value for name, value in asdict(self).items() if name != "thinking" or value}


def record(answer: AnswerSoFar, started_s: float, error: AudioFlamingoError | None = None) -> Record:
    """started_s: `time.monotonic()` at the request."""
    sentence = None if error is None else str(error)
    return Record(
        answer.text_so_far,
        answer.finish_reason,
        answer.token_count,
        _since(started_s),
        sentence,
        answer.thinking_so_far,
    )


def failed(started_s: float, error: AudioFlamingoError) -> Record:
    """The record of a request that could not even be sent."""
    return Record("", "", 0, _since(started_s), str(error))


def _since(started_s: float) -> float:
    return round(time.monotonic() - started_s, 3)
