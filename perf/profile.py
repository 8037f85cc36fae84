"""Turns perf_analyzer's profile export into the figures of a streaming server.

perf_analyzer itself reports only the latency to the first response of a streamed answer. Its export has the time of
every request and response in nanoseconds (perf_analyzer's documentation: profile export schema).
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
    """Mean and percentiles (linearly interpolated) of one quantity; None without samples."""

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
    """One request of an export; times are seconds after it was sent.

    row: its `prompt`, which identifies the row of the traffic.
    texts: time of each response with text, and the answer's tokens so far.
    speech_s: time of each response with speech. complete: the response with the finish reason arrived.
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
    """Figures of one load, in seconds; rates count from the first request to the last response.

    inter_token_s: gap before a response divided by its number of tokens.
    response_gap_s: the same gaps undivided, which a reader sees as a stall.
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
    """Read the requests of the first experiment in `export`.

    The export repeats binary inputs raw, which is not valid UTF-8; such bytes are replaced.
    """
    profile = json.loads(export.read_text(encoding="utf-8", errors="replace"), strict=False)
    return [_request(entry) for entry in profile["experiments"][0]["requests"]]


def figures(requests: Sequence[Request], audio_s: Mapping[str, float]) -> Figures:
    """Compute the figures. audio_s: seconds of audio by row. An answer without its end counts as an error."""
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
    """List (seconds since the previous response, tokens in this one); the last response may have no token."""
    pairs = pairwise(request.texts)
    return [(after - before, now - sofar) for (before, sofar), (after, now) in pairs if now > sofar]


def _request(entry: Mapping[str, Any]) -> Request:
    """Parse one request of the export.

    For an output that a response lacks, perf_analyzer 2.51 exports uninitialised memory as a number. So a response has
    speech when its speech is a list, and text when its index is the next in order.
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
