"""perf_analyzer's profile export → the figures of a streaming server.

perf_analyzer itself knows "latency to the first response" and no more of a streamed answer; its export has the
time of every request and response in nanoseconds (docs of perf_analyzer: profile export schema).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Spread:
    """Of one quantity over all its samples: percentiles interpolated linearly. None where there is no sample."""

    samples: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None


def spread(values: Sequence[float]) -> Spread:
    """Percentiles of `values`."""
    if len(values) == 0:
        return Spread(0, None, None, None, None, None)
    return Spread(len(values), float(np.mean(values)), *map(float, np.percentile(values, PERCENTILES)))


@dataclass(frozen=True)
class Request:
    """One request of an export. Times in seconds after it was sent.

    row: the text of its `prompt`, by which the traffic tells its rows apart.
    texts: when each response with text came, and the tokens of the answer up to there.
    speech_s: when each response with speech came. complete: the one with the finish reason has come.
    """

    row: str
    sent_s: float
    texts: tuple[tuple[float, int], ...]
    speech_s: tuple[float, ...]
    complete: bool

    @property
    def first_s(self) -> float:
        return self.texts[0][0]

    @property
    def ended_s(self) -> float:
        return max(self.texts[-1][0], *self.speech_s, 0.0)

    @property
    def tokens(self) -> int:
        return self.texts[-1][1]


@dataclass(frozen=True)
class Figures:
    """Of one load. Seconds; rates are over the time from the first request to the last response.

    inter_token_s: gaps before the responses of an answer, shared by the tokens that each brought.
    response_gap_s: the same gaps whole, which is what a reader sees as a stall.
    """

    requests: int
    errors: int
    duration_s: float
    requests_per_s: float
    tokens_per_s: float
    audio_s_per_s: float
    tokens_per_request: float
    first_token_s: Spread
    inter_token_s: Spread
    response_gap_s: Spread
    first_audio_s: Spread
    end_to_end_s: Spread

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read(export: Path) -> list[Request]:
    """The requests of the first experiment in `export`.

    The export repeats binary inputs as they are, which is no UTF-8: what cannot be read is replaced.
    """
    profile = json.loads(export.read_text(encoding="utf-8", errors="replace"), strict=False)
    return [_request(entry) for entry in profile["experiments"][0]["requests"]]


def figures(requests: Sequence[Request], audio_s: Mapping[str, float]) -> Figures:
    """`audio_s`: seconds of audio in the request of each row. An answer without its end is an error."""
    complete = [request for request in requests if request.complete]
    first_sent = min((request.sent_s for request in complete), default=0.0)
    last_response = max((request.sent_s + request.ended_s for request in complete), default=0.0)
    duration = last_response - first_sent
    tokens = sum(request.tokens for request in complete)
    gaps = [gap for request in complete for gap in _gaps(request)]

    def rate(amount: float) -> float:
        return amount / duration if duration > 0 else 0.0

    return Figures(
        requests=len(requests),
        errors=len(requests) - len(complete),
        duration_s=duration,
        requests_per_s=rate(len(complete)),
        tokens_per_s=rate(tokens),
        audio_s_per_s=rate(sum(audio_s[request.row] for request in complete)),
        tokens_per_request=tokens / len(complete) if complete else 0.0,
        first_token_s=spread([request.first_s for request in complete]),
        inter_token_s=spread([gap / new for gap, new in gaps for _ in range(new)]),
        response_gap_s=spread([gap for gap, _ in gaps]),
        first_audio_s=spread([request.speech_s[0] for request in complete if request.speech_s]),
        end_to_end_s=spread([request.ended_s for request in complete]),
    )


def _gaps(request: Request) -> list[tuple[float, int]]:
    """Seconds since the response before, and the tokens it brought; the last response may bring none."""
    pairs = pairwise(request.texts)
    return [(after - before, now - sofar) for (before, sofar), (after, now) in pairs if now > sofar]


def _request(entry: Mapping[str, Any]) -> Request:
    """For an output that a response lacks perf_analyzer 2.51 exports whatever lay in memory, as a number.

    So a response is one with speech when that is a list, and one with text when it is the next in order.
    """
    sent = int(entry["timestamp"])
    texts: list[tuple[float, int]] = []
    speech: list[float] = []
    complete = False
    for stamp, outputs in zip(entry["response_timestamps"], entry["response_outputs"], strict=False):
        after_s = (int(stamp) - sent) / 1e9
        if isinstance(outputs.get("speech"), list):
            speech.append(after_s)
        elif not complete and outputs.get("index") == len(texts):
            texts.append((after_s, int(outputs["token_count"])))
            complete = bool(outputs["finish_reason"])
    row = str(entry["request_inputs"].get("prompt", ""))
    return Request(row, sent / 1e9, tuple(texts), tuple(speech), complete)
