"""One client for every server: OpenAI's chat API, answers as events. It notes when each came, and reads them later."""

from __future__ import annotations

import asyncio
import base64
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx2

from perf.profile import spread

PATH = "/v1/chat/completions"
TIMEOUT_S = 600


class RefusedError(Exception):
    """The server did not answer a question; the message is what it said."""


@dataclass(frozen=True)
class Answer:
    """Seconds are those of time.perf_counter. texts_s: when each event with text came."""

    text: str
    tokens: int
    sent_s: float
    texts_s: tuple[float, ...]
    ended_s: float


@dataclass(frozen=True)
class Figures:
    """What one load made of one server. Seconds; a refused question counts in `errors` and nowhere else.

    token_s: median over the answers of the time between the first and the last text, by token.
    gap_p99_s: between two events with text. processor_s: of this client, which runs on the same cores.
    """

    answers: int
    errors: int
    requests_per_s: float
    tokens_per_s: float
    first_p50_s: float
    first_p95_s: float
    whole_p50_s: float
    token_s: float
    gap_p99_s: float
    processor_s: float


def question(file: bytes, kind: str, text: str, model: str, tokens: int, fields: Mapping[str, Any]) -> bytes:
    """The body of a question about a file. fields: what this server needs beside what all get."""
    content: list[dict[str, Any]] = [
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(file).decode(), "format": kind}}
    ]
    if text:
        content.append({"type": "text", "text": text})
    body = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(body | dict(fields)).encode()


async def ask(client: httpx2.AsyncClient, url: str, body: bytes) -> Answer:
    """Ask and wait for the end. Raises RefusedError; httpx2.HTTPError where nothing listens."""
    pieces: list[tuple[float, bytes]] = []
    sent_s = time.perf_counter()
    headers = {"content-type": "application/json"}
    async with client.stream("POST", url + PATH, content=body, headers=headers) as reply:
        async for piece in reply.aiter_raw():
            pieces.append((time.perf_counter(), piece))
    if reply.status_code != 200:
        raise RefusedError(f"HTTP {reply.status_code}: {b''.join(piece for _, piece in pieces)[:300]!r}")
    return read_answer(sent_s, pieces)


def read_answer(sent_s: float, pieces: Sequence[tuple[float, bytes]]) -> Answer:
    """Read the events from the bytes and the times at which they came. Raises RefusedError."""
    texts, texts_s, tokens, ended_s = [], [], 0, sent_s
    for at_s, event in _events(pieces):
        if "error" in event:
            raise RefusedError(json.dumps(event["error"])[:300])
        ended_s = at_s
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
        for choice in event.get("choices", ()):
            if text := choice["delta"].get("content"):
                texts.append(text)
                texts_s.append(at_s)
    if not texts:
        raise RefusedError("the answer is empty")
    return Answer("".join(texts), tokens, sent_s, tuple(texts_s), ended_s)


def _events(pieces: Sequence[tuple[float, bytes]]) -> Iterator[tuple[float, dict[str, Any]]]:
    """The events, each with the time at which its last byte came."""
    rest = b""
    for at_s, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            data = line.strip().removeprefix(b"data:").strip()
            if data.startswith(b"{"):
                yield at_s, json.loads(data)


async def load(url: str, bodies: Sequence[bytes], clients: int, seconds: float) -> Figures:
    """`clients` at a time, each asking the next question when it has its answer, for about that long."""
    waiting = iter(bodies)
    answers: list[Answer] = []
    errors: list[str] = []
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    began_s, spent_s = time.perf_counter(), time.process_time()

    async def one(client: httpx2.AsyncClient) -> None:
        for body in waiting:
            try:
                answers.append(await ask(client, url, body))
            except (RefusedError, httpx2.HTTPError) as error:
                errors.append(f"{type(error).__name__}: {error}")
            if time.perf_counter() - began_s > seconds:
                return

    async with httpx2.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:
        await asyncio.gather(*(one(client) for _ in range(clients)))
    if not answers:
        raise RefusedError(errors[0] if errors else "no question was asked")
    return figures(answers, len(errors), time.process_time() - spent_s)


def figures(answers: Sequence[Answer], errors: int, processor_s: float) -> Figures:
    """Rates count from the first question to the end of the last answer."""
    busy_s = max(answer.ended_s for answer in answers) - min(answer.sent_s for answer in answers)
    first = spread([answer.texts_s[0] - answer.sent_s for answer in answers])
    gaps = [after - before for answer in answers for before, after in pairwise(answer.texts_s)]
    shares = [(a.texts_s[-1] - a.texts_s[0]) / (a.tokens - 1) for a in answers if a.tokens > 1]
    return Figures(
        answers=len(answers),
        errors=errors,
        requests_per_s=len(answers) / busy_s,
        tokens_per_s=sum(answer.tokens for answer in answers) / busy_s,
        first_p50_s=first.p50 or 0.0,
        first_p95_s=first.p95 or 0.0,
        whole_p50_s=statistics.median(answer.ended_s - answer.sent_s for answer in answers),
        token_s=statistics.median(shares) if shares else 0.0,
        gap_p99_s=spread(gaps).p99 or 0.0,
        processor_s=processor_s,
    )
