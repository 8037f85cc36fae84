"""Token ids of many interleaved answers → text deltas, each with its place and the reason for the end."""

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
from af3.parameters import parse_parameters
from af3.tokenizer import Tokenizer

LONGEST_WAIT_S = 0.05  # a reader sees no jerks at 20 responses a second, however many others read

FinishReason = Literal["", "stop", "length"]


@dataclass(frozen=True)
class Delta:
    """One response: `text` and `thinking` are what it adds, `token_count` how many tokens there are so far."""

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
    held: tuple[int, ...] = ()  # tokens that go with the next response
    next_s: float = 0.0  # no response before that time, but the last


class Postprocessor:
    """Keeps the state of every answer in flight, by request id.

    The LLM's final flag does not reach this step of an ensemble, so the end is known from what does: no new
    tokens, `max_tokens` reached, or an end token among them. An answer whose stop string was met, or whose
    client has gone, is stopped at the LLM by `stop_llm` and ends with the LLM's last response. An answer
    that hears nothing for `idle_s` (its LLM step failed, or the server dropped it) is forgotten by
    `forget_idle`, which any thread may call. There is nothing to stop then: an LLM that works is heard.
    An LLM may send an empty last response after the one that already ended the answer; it is dropped.

    A response costs the same whether it brings one token or ten, so all answers together are kept to about
    `most_responses_per_s`: every answer gets its share, and a token that comes before it is due goes with the
    next one. The first and the last never wait.
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
        self._ended_s: dict[str, float] = {}  # answers that ended lately, and when
        self._lock = threading.Lock()
        self.cancelled = 0

    @classmethod
    def load(
        cls, engine_dir: Path, stop_llm: Callable[[str], None], idle_s: float, most_responses_per_s: float
    ) -> Postprocessor:
        """From a folder made by `make engines`."""
        manifest = Manifest.read(engine_dir)
        tokenizer = Tokenizer.load(engine_dir / TOKENIZER_FOLDER)
        return cls(tokenizer, manifest.model.stop_token_ids, stop_llm, idle_s, most_responses_per_s)

    @property
    def live(self) -> int:
        """Answers in flight."""
        return len(self._answers)

    def push(
        self,
        request_id: str,
        given_parameters: Callable[[], dict[str, Any]],
        ids: Sequence[int],
        cancelled: Callable[[], bool],
    ) -> Delta | None:
        """The next response of the LLM to a request: `ids` are its new tokens, none in the last.

        None: they go with the next response, or the answer had ended before. `given_parameters` is asked once per
        request, at its first response; `cancelled` whenever one is due.
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
        answer.next_s = now + min(LONGEST_WAIT_S, self.live / self._most_responses_per_s)
        kept, answer.held = answer.held, ()
        thinking, text = answer.reasoning.push(answer.detokenizer.push(kept))
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
        """Drop the state of answers that broke off."""
        with self._lock:
            since_s = self._clock() - self._idle_s
            for request_id in [key for key, answer in self._answers.items() if answer.last_seen_s < since_s]:
                del self._answers[request_id]
            for request_id in [key for key, ended_s in self._ended_s.items() if ended_s < since_s]:
                del self._ended_s[request_id]
