"""The JSON of /v1/audio/speech → the request to the relay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError

from af3 import contract
from serving.door import generate_request
from serving.door.openai.chat_fields import Voice
from serving.door.openai.field_checks import NotDone, field_error, take_out
from serving.door.openai.json_values import Given, Text
from serving.door.openai.openai_errors import model_not_found
from serving.door.openai.sound_formats import CODED, coder
from serving.door.wire_request import WireRequest

SPEECH_MODELS = (contract.SPEECH_ALONE.name,)
SpeechFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
NOT_DONE: Mapping[str, NotDone] = {
    "stream_format": NotDone("the bytes of the file are streamed, not events", ("audio",)),
}

WITHOUT_EFFECT = frozenset(
    {"instructions"}
)  # how to speak, which no voice here follows; clients send it unasked


class SpeechRequest(Given):
    model: Text
    input: Text = Field(description="what is spoken")
    voice: Voice | None = Field(None, description="one of the server's, a mix, or one of OpenAI's names")
    response_format: SpeechFormat | None = Field(None, description="mp3; wav and pcm (24 kHz) are streamed")
    speed: float | None = Field(None, description="0.5 to 2")


@dataclass(frozen=True)
class SpeechAsked:
    sound: str


def to_request(given: Mapping[str, Any]) -> tuple[WireRequest, SpeechAsked]:
    """Raises RequestError that names the field."""
    try:
        asked = SpeechRequest.model_validate(take_out(given, NOT_DONE, WITHOUT_EFFECT))
    except ValidationError as error:
        raise field_error(error) from None
    if asked.model not in SPEECH_MODELS:
        raise model_not_found(asked.model, SPEECH_MODELS)
    sound = asked.response_format or "mp3"
    if sound in CODED:
        coder()
    request, _ = generate_request.to_request(
        contract.SPEECH_ALONE.name,
        {contract.TEXT.name: asked.input, "voice": asked.voice, "rate": asked.speed},
    )
    return request, SpeechAsked(sound)
