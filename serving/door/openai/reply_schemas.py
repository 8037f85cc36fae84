"""Schemas of what is answered, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_SECONDS = {"type": "number", "minimum": 0}


def _object(**fields: Any) -> dict[str, Any]:
    """An object; fields whose names begin with "maybe_" may be absent."""
    properties = {name.removeprefix("maybe_"): schema for name, schema in fields.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in fields if not name.startswith("maybe_")],
        "additionalProperties": False,
    }


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


_MODEL = _object(id=_TEXT, object={"const": "model"}, created=_COUNT, owned_by=_TEXT)
_AUDIO = _object(id=_TEXT, data=_TEXT, expires_at=_COUNT, transcript=_TEXT)
_MESSAGE = _object(
    role={"const": "assistant"},
    content=_or_null(_TEXT),
    refusal={"type": "null"},
    maybe_audio=_AUDIO,
    maybe_reasoning_content=_TEXT,
)
_CHOICE = _object(
    index={"const": 0},
    message=_MESSAGE,
    logprobs={"type": "null"},
    finish_reason={"enum": ["stop", "length"]},
    maybe_token_ids={"type": "array", "items": {"type": "integer"}},
)
_USAGE = _object(
    prompt_tokens=_COUNT,
    completion_tokens=_COUNT,
    total_tokens=_COUNT,
    prompt_tokens_details=_object(audio_tokens=_COUNT, cached_tokens=_COUNT),
    completion_tokens_details=_object(audio_tokens=_COUNT, text_tokens=_COUNT),
)
_SEGMENT = _object(
    id=_COUNT,
    seek=_COUNT,
    start=_SECONDS,
    end=_SECONDS,
    text=_TEXT,
    tokens={"type": "array", "items": {"type": "integer"}},
    temperature={"type": "number"},
    avg_logprob={"type": "number"},
    compression_ratio={"type": "number"},
    no_speech_prob={"type": "number"},
)
REPLIES: Mapping[str, Any] = {
    "Error": _object(error=_object(message=_TEXT, type=_TEXT, param=_or_null(_TEXT), code=_or_null(_TEXT))),
    "Model": _MODEL,
    "Models": _object(object={"const": "list"}, data={"type": "array", "items": _MODEL}),
    "ChatCompletion": _object(
        id=_TEXT,
        object={"const": "chat.completion"},
        created=_COUNT,
        model=_TEXT,
        choices={"type": "array", "items": _CHOICE},
        usage=_USAGE,
    ),
    "Transcription": _object(
        text=_TEXT,
        usage=_object(
            type={"const": "tokens"},
            input_tokens=_COUNT,
            input_token_details=_object(audio_tokens=_COUNT, text_tokens=_COUNT),
            output_tokens=_COUNT,
            total_tokens=_COUNT,
        ),
    ),
    "VerboseTranscription": _object(
        task={"enum": ["transcribe", "translate"]},
        language=_TEXT,
        duration=_SECONDS,
        text=_TEXT,
        segments={"type": "array", "items": _SEGMENT},
        usage=_object(type={"const": "duration"}, seconds=_SECONDS),
    ),
}
