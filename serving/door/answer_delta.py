"""One response of an ensemble, read."""

from __future__ import annotations

from dataclasses import dataclass

from tritonclient.grpc import service_pb2

from af3 import contract


@dataclass(frozen=True)
class AnswerDelta:
    """The content of one response. `speech`: int16, little endian, at `hz`. Numbers are 0 if the response has none."""

    text: str = ""
    thinking: str = ""
    finish_reason: str = ""
    token_count: int = 0
    token_ids: bytes = b""
    prompt_tokens: int = 0
    audio_tokens: int = 0
    speech: bytes = b""
    hz: int = 0
    speech_error: str = ""


def answer_delta(response: service_pb2.ModelInferResponse) -> AnswerDelta:
    """Read the delta of one response, or of a whole answer (`collect`)."""
    raws = dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=False))

    def text(tensor: contract.Tensor) -> str:
        return raws.get(tensor.name, b"")[4:].decode("utf-8", "replace")

    def number(tensor: contract.Tensor) -> int:
        return int.from_bytes(raws.get(tensor.name, b""), "little")

    return AnswerDelta(
        text(contract.TEXT),
        text(contract.THINKING),
        text(contract.FINISH_REASON),
        number(contract.TOKEN_COUNT),
        raws.get(contract.TOKEN_IDS.name, b""),
        number(contract.PROMPT_TOKENS),
        number(contract.AUDIO_TOKENS),
        raws.get(contract.SPEECH.name, b""),
        number(contract.SAMPLE_RATE),
        text(contract.SPEECH_ERROR),
    )
