"""Responses of the server → deltas of one answer. Shared by the sync and the asyncio client."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferResult, service_pb2

from . import contract
from .errors import AudioFlamingoError, from_status, raise_error_in

# gRPC's own details of a call that ended on this side; a server's errors have other sentences.
CANCELLED_HERE = ("", "Locally cancelled by application!", "CANCELLED")
DEADLINE_HERE = "Deadline Exceeded"


@dataclass(frozen=True)
class Delta:
    """The part of an answer in one response.

    text: the new text, possibly empty.
    finish_reason: "" until the last one, there "stop" or "length".
    token_count: tokens of the answer so far.
    index: 0, 1, 2 … within the answer.
    token_ids: the new tokens.
    thinking: what a reasoning model adds to its reasoning, which is no part of the text; else empty.
    speech: int16 [n] at `sample_rate` Hz, from `audio_flamingo_speech` in deltas of their own; else None.
    speech_text: the part of the answer that is spoken from here on; else empty.
    speech_error: why no more speech follows; else empty.
    """

    text: str
    finish_reason: str
    token_count: int
    index: int
    token_ids: tuple[int, ...]
    speech: NDArray[np.int16] | None = None
    sample_rate: int | None = None
    speech_text: str = ""
    speech_error: str = ""
    thinking: str = ""


@dataclass
class Progress:
    """One answer while it arrives: what has come, and whether that is in order.

    Raises AudioFlamingoError from `take` and `end` when the stream is not what the contract says.
    """

    url: str
    timeout_s: float | None
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    finish_reason: str = ""
    token_count: int = 0
    next_index: int = 0

    def take(self, response: service_pb2.ModelStreamInferResponse) -> Delta | None:
        """The delta in a response; None for one without tensors, which only says that it was the last."""
        raise_error_in(response, self.url)
        if not response.infer_response.outputs:
            return None
        result = InferResult(response.infer_response)
        if result.get_output(contract.TEXT.name) is None:
            return self._spoken(result)
        delta = _delta(result)
        if delta.index != self.next_index or self.finish_reason:
            after = "the end" if self.finish_reason else f"{self.next_index - 1}"
            raise AudioFlamingoError(
                "DATA_LOSS",
                f"response {delta.index} came after {after}; the server at {self.url} broke the order",
            )
        self.next_index += 1
        self.texts.append(delta.text)
        self.thoughts.append(delta.thinking)
        self.token_count = delta.token_count
        self.finish_reason = delta.finish_reason
        return delta

    def _spoken(self, result: InferResult) -> Delta:
        """Speech comes between and after the text, and adds nothing to it."""
        sample_rate = result.as_numpy(contract.SAMPLE_RATE.name)
        return Delta(
            text="",
            finish_reason=self.finish_reason,
            token_count=self.token_count,
            index=self.next_index - 1,
            token_ids=(),
            speech=result.as_numpy(contract.SPEECH.name),
            sample_rate=None if sample_rate is None else int(sample_rate[0]),
            speech_text=_string(result, contract.SPEECH_TEXT),
            speech_error=_string(result, contract.SPEECH_ERROR),
        )

    def end(self) -> None:
        """The stream ended without an error."""
        if not self.finish_reason:
            raise AudioFlamingoError(
                "DATA_LOSS",
                f"the stream of {self.url} ended after {self.token_count} tokens without a finish reason;"
                " look into the server's log",
            )

    def failure(self, status: str, details: str) -> AudioFlamingoError:
        """The error for a stream that ended with a gRPC status other than OK."""
        if status == "CANCELLED" and details in CANCELLED_HERE:
            return AudioFlamingoError(status, f"the answer was cancelled after {self.token_count} tokens")
        if status == "DEADLINE_EXCEEDED" and DEADLINE_HERE in details:
            return AudioFlamingoError(
                status,
                f"no complete answer within {self.timeout_s:g} s ({self.token_count} tokens came);"
                " allow more time, lower max_tokens or send a shorter clip",
            )
        return from_status(status, details, self.url)


class AnswerSoFar:
    """An answer as far as it has come; it can be read at any time."""

    def __init__(self, request_id: str, progress: Progress):
        self.request_id = request_id
        self._progress = progress

    @property
    def text_so_far(self) -> str:
        return "".join(self._progress.texts)

    @property
    def thinking_so_far(self) -> str:
        """The reasoning of a model that thinks before it answers; no part of the text."""
        return "".join(self._progress.thoughts)

    @property
    def finish_reason(self) -> str:
        """Empty until the answer is complete; then "stop", or "length" when max_tokens cut it."""
        return self._progress.finish_reason

    @property
    def token_count(self) -> int:
        return self._progress.token_count


def _delta(result: InferResult) -> Delta:
    return Delta(
        text=_string(result, contract.TEXT),
        finish_reason=_string(result, contract.FINISH_REASON),
        token_count=int(result.as_numpy(contract.TOKEN_COUNT.name)[0]),
        index=int(result.as_numpy(contract.INDEX.name)[0]),
        token_ids=tuple(result.as_numpy(contract.TOKEN_IDS.name).tolist()),
        thinking=_string(result, contract.THINKING),
    )


def _string(result: InferResult, tensor: contract.Tensor) -> str:
    values = result.as_numpy(tensor.name)
    text: str = "" if values is None else values[0].decode()
    return text
