"""Turns token ids of interleaved answers into text deltas with an index and a finish reason."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from af3.manifest import TOKENIZER_FOLDER, Manifest
from af3.outputs.detokenizer import Detokenizer
from af3.outputs.reasoning import ReasoningSplit
from af3.pace import gap_s
from af3.parameters import parse_parameters
from af3.tokenizer import Tokenizer

FinishReason = Literal["", "stop", "length"]


@dataclass(frozen=True)
class Delta:
    """One response: `text` and `thinking` are the new pieces, `token_count` the tokens so far."""

    text: str
    finish_reason: FinishReason
    token_count: int
    index: int
    token_ids: tuple[int, ...]
    thinking: str = ""


@dataclass
class _Answer:
    """State of one request between its responses."""

    detokenizer: Detokenizer
    max_tokens: int
    last_seen_s: float
    reasoning: ReasoningSplit = field(default_factory=ReasoningSplit)
    token_count: int = 0
    index: int = 0
    stop_sent: bool = False
    held: tuple[int, ...] = ()  # tokens for the next response
    next_s: float = 0.0  # earliest time of the next response, except the last


class Postprocessor:
    """Keeps the state of every answer in flight by request id.

    The LLM's final flag does not reach this step of an ensemble. So the end is detected from a response without new
    tokens, from `max_tokens`, or from an end token. When a stop string appears or the client leaves, `stop_llm` stops
    the LLM, and the answer ends with the LLM's last response. `forget_idle`, which any thread may call, drops answers
    without a response for `idle_s` (their LLM step failed, or the server dropped them). It need not stop the LLM: a
    working LLM sends responses. After the end of an answer, an LLM may send one more empty response, which is dropped.

    A response costs the same with one token or ten, so all answers together send about `most_responses_per_s`. Each
    answer gets its share; a token that comes too early goes with the next response, or by `held` if none comes.
    The first and the last response never wait.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop_token_ids: Sequence[int],
        stop_llm: Callable[[str], None],
        idle_s: float,
        most_responses_per_s: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._tokenizer = tokenizer
        self._stop_token_ids = frozenset(stop_token_ids)
        self._stop_llm = stop_llm
        self._idle_s = idle_s
        self._most_responses_per_s = most_responses_per_s
        self._clock = clock
        self._answers: dict[str, _Answer] = {}
        self._ended_s: dict[str, float] = {}  # recently ended answers, and when they ended
        self._lock = threading.Lock()
        self.cancelled = 0

    @classmethod
    def load(
        cls, engine_dir: Path, stop_llm: Callable[[str], None], idle_s: float, most_responses_per_s: float
    ) -> Postprocessor:
        """Load from a folder made by `make engines`."""
        manifest = Manifest.read(engine_dir)
        tokenizer = Tokenizer.load(engine_dir / TOKENIZER_FOLDER)
        return cls(tokenizer, manifest.model.stop_token_ids, stop_llm, idle_s, most_responses_per_s)

    @property
    def live(self) -> int:
        """Number of answers in flight."""
        return len(self._answers)

    def push(
        self,
        request_id: str,
        given_parameters: Callable[[], dict[str, Any]],
        ids: Sequence[int],
        cancelled: Callable[[], bool],
    ) -> Delta | None:
        """Process the LLM's next response: `ids` are its new tokens, empty in the last.

        Returns None when the tokens go with the next response, or when the answer had already ended.
        given_parameters: called once per request, at its first response. cancelled: called whenever a response is due.
        """
        now = self._clock()
        with self._lock:
            answer = self._answers.get(request_id)
            if answer is None and self._ended_s.pop(request_id, None) is not None and not ids:
                return None
            answer = answer or self._begin(request_id, given_parameters())
            answer.last_seen_s = now
        fresh = tuple(token for token in ids if token not in self._stop_token_ids)
        answer.token_count += len(fresh)
        answer.held += fresh
        ended = len(fresh) < max(1, len(ids)) or answer.token_count >= answer.max_tokens
        if now < answer.next_s and not ended:
            return None
        kept, thinking, text = self._release(answer, now)
        if ended:
            for more in (answer.reasoning.push(answer.detokenizer.finish()), answer.reasoning.finish()):
                thinking, text = thinking + more[0], text + more[1]
            self._end(request_id, now)
        elif not answer.stop_sent:
            self._stop_unwanted(request_id, answer, cancelled())
        reason: FinishReason = ""
        if ended:
            by_length = len(fresh) == len(ids) and len(ids) > 0 and not answer.detokenizer.stopped
            reason = "length" if by_length else "stop"
        answer.index += 1
        return Delta(text, reason, answer.token_count, answer.index - 1, kept, thinking)

    def holds(self, request_id: str) -> bool:
        """Whether tokens of this answer wait for its next response."""
        answer = self._answers.get(request_id)
        return answer is not None and bool(answer.held)

    def held(self, request_id: str) -> Delta | None:
        """A response for the tokens that wait, since the LLM has brought no others to go with; None where none do.

        Not to be called while `push` or another `held` is.
        """
        answer = self._answers.get(request_id)
        if answer is None or not answer.held:
            return None
        kept, thinking, text = self._release(answer, self._clock())
        if not answer.stop_sent:
            self._stop_unwanted(request_id, answer, False)
        answer.index += 1
        return Delta(text, "", answer.token_count, answer.index - 1, kept, thinking)

    def _release(self, answer: _Answer, now: float) -> tuple[tuple[int, ...], str, str]:
        """The tokens that wait, what they add to the reasoning, and to the text."""
        answer.next_s = now + gap_s(self.live, self._most_responses_per_s)
        kept, answer.held = answer.held, ()
        return kept, *answer.reasoning.push(answer.detokenizer.push(kept))

    def _stop_unwanted(self, request_id: str, answer: _Answer, cancelled: bool) -> None:
        if cancelled or answer.detokenizer.stopped:
            answer.stop_sent = True
            self.cancelled += cancelled
            self._stop_llm(request_id)

    def _begin(self, request_id: str, given_parameters: dict[str, Any]) -> _Answer:
        parameters = parse_parameters(given_parameters)
        detokenizer = Detokenizer(self._tokenizer, parameters.stop)
        answer = _Answer(detokenizer, parameters.max_tokens, self._clock())
        self._answers[request_id] = answer
        return answer

    def _end(self, request_id: str, now: float) -> None:
        with self._lock:
            self._answers.pop(request_id, None)
            self._ended_s[request_id] = now

    def forget_idle(self) -> None:
        """Drop the state of abandoned answers."""
        with self._lock:
            since_s = self._clock() - self._idle_s
            for request_id in [key for key, answer in self._answers.items() if answer.last_seen_s < since_s]:
                del self._answers[request_id]
            for request_id in [key for key, ended_s in self._ended_s.items() if ended_s < since_s]:
                del self._ended_s[request_id]
