"""/openapi.json: what may be asked and what is answered, made from the models that read the requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from serving.door.openai import chat_fields, speech_request
from serving.door.openai.chat_request import CHAT_MODELS
from serving.door.openai.field_checks import NotDone
from serving.door.openai.reply_schemas import REPLIES
from serving.door.openai.sound_formats import MEDIA_TYPES
from serving.door.openai.transcription_request import NUMBERS, ReplyFormat

Schema = dict[str, Any]
# The ranges that the steps accept (af3/parameters.py). The steps refuse other values in their own words.
RANGES: Mapping[str, Schema] = {
    "max_tokens": {"minimum": 1, "maximum": 4096},
    "max_completion_tokens": {"minimum": 1, "maximum": 4096},
    "temperature": {"minimum": 0.0, "maximum": 2.0},
    "top_p": {"exclusiveMinimum": 0.0, "maximum": 1.0},
    "top_k": {"minimum": 0, "maximum": 1024},
    "repetition_penalty": {"minimum": 0.5, "maximum": 2.0},
    "seed": {"minimum": 0, "maximum": 2**63 - 1},
    "rate": {"minimum": 0.5, "maximum": 2.0},
    "speed": {"minimum": 0.5, "maximum": 2.0},
    "timeout": {"minimum": 1},
}
ERRORS: Mapping[str, str] = {
    "400": "A field is wrong, unknown, or asks for what is not done; param names it",
    "401": "The API key is missing or wrong",
    "404": "The model is not served",
    "405": "The path is served to another method",
    "408": "No answer within the time allowed",
    "413": "The request is too large",
    "429": "Too many requests; Retry-After says when to come back",
    "500": "A fault of the server",
    "501": "This server lacks a program that the request needs",
    "503": "The server is starting, stopping, or a part of it died",
}


def openapi_document(version: str) -> Schema:
    """An OpenAPI 3.1 document."""
    schemas: Schema = dict(REPLIES)
    chat = _model(chat_fields.ChatRequest, schemas)
    _extend(chat, chat_fields.NOT_DONE, chat_fields.WITHOUT_EFFECT, CHAT_MODELS)
    speech = _model(speech_request.SpeechRequest, schemas)
    _extend(speech, speech_request.NOT_DONE, frozenset(), speech_request.SPEECH_MODELS)
    chat["examples"] = [
        {"model": CHAT_MODELS[0], "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 8}
    ]
    speech["examples"] = [{"model": speech_request.SPEECH_MODELS[0], "input": "One, two, three."}]
    schemas |= {"ChatRequest": chat, "SpeechRequest": speech}
    schemas |= {"TranslationForm": _form(False), "TranscriptionForm": _form(True)}
    paths = {
        "/v1/models": {"get": _get("listModels", "The models", "Models")},
        "/v1/models/{model}": {
            "get": _get("retrieveModel", "One model", "Model")
            | {
                "parameters": [
                    {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
                ]
            }
        },
        "/v1/chat/completions": _post(
            "createChatCompletion",
            "Ask about clips, in a conversation; with modalities [text, audio] the answer is spoken, too",
            "application/json",
            "ChatRequest",
            {
                "application/json": _ref("ChatCompletion"),
                "text/event-stream": {"description": "one JSON object in the data of each event"},
            },
        ),
        "/v1/audio/transcriptions": _post(
            "createTranscription",
            "What is said in a clip",
            "multipart/form-data",
            "TranscriptionForm",
            _TEXTS,
        ),
        "/v1/audio/translations": _post(
            "createTranslation", "The same in English", "multipart/form-data", "TranslationForm", _TEXTS
        ),
        "/v1/audio/speech": _post(
            "createSpeech",
            "Speak a text; wav and pcm are streamed",
            "application/json",
            "SpeechRequest",
            {kind: {"type": "string", "format": "binary"} for kind in sorted(set(MEDIA_TYPES.values()))},
        ),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Audio Flamingo 3: the OpenAI API",
            "version": version,
            "description": "docs/openai.md says what differs from OpenAI's.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def _model(model: type[BaseModel], schemas: Schema) -> Schema:
    """The schema of a request; those that it is made of are added to `schemas`."""
    found: Schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(found.pop("$defs", {}))
    return found


def _extend(
    schema: Schema,
    not_done: Mapping[str, NotDone],
    without_effect: frozenset[str],
    models: tuple[str, ...],
) -> None:
    properties = schema["properties"]
    properties["model"] = {"type": "string", "enum": list(models)}
    for name, allowed in RANGES.items():
        for one in properties.get(name, {}).get("anyOf", ()):
            if one["type"] != "null":
                one |= allowed
    for name, rule in not_done.items():
        properties[name] = {"enum": [None, *rule.neutral], "description": f"not done: {rule.why}"}
    for name in sorted(without_effect):
        properties[name] = {"description": "without effect on the answer"}


def _form(transcription: bool) -> Schema:
    properties: Schema = {
        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
        "model": {"type": "string", "enum": list(CHAT_MODELS)},
        "prompt": {"type": "string", "description": "is added to the question that the model is asked"},
        "response_format": {"type": "string", "enum": list(get_args(ReplyFormat))},
        "read_cut_short": {"type": "boolean"},
    }
    for name, kind in NUMBERS.items():
        properties[name] = {"type": "integer" if kind is int else "number", **RANGES.get(name, {})}
    if transcription:
        properties |= {
            "language": {"enum": ["en"]},
            "stream": {"type": "boolean", "description": "of json and text"},
            "timestamp_granularities": {
                "type": "array",
                "items": {"enum": ["segment"]},
                "description": "of verbose_json",
            },
            "chunking_strategy": {"enum": ["auto"]},
        }
    return {
        "type": "object",
        "properties": properties,
        "required": ["file", "model"],
        "additionalProperties": False,
    }


def _get(operation: str, summary: str, reply: str) -> Schema:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": _reply({"application/json": _ref(reply)})} | _errors(("401", "404", "405")),
    }


def _post(operation: str, summary: str, kind: str, body: str, replies: Mapping[str, Schema]) -> Schema:
    return {
        "post": {
            "operationId": operation,
            "summary": summary,
            "requestBody": {"required": True, "content": {kind: {"schema": _ref(body)}}},
            "responses": {"200": _reply(replies)} | _errors(tuple(ERRORS)),
        }
    }


def _reply(replies: Mapping[str, Schema]) -> Schema:
    return {"description": "The answer", "content": {kind: {"schema": one} for kind, one in replies.items()}}


def _errors(codes: tuple[str, ...]) -> Schema:
    content = {"application/json": {"schema": _ref("Error")}}
    return {code: {"description": ERRORS[code], "content": content} for code in codes}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXTS: Mapping[str, Schema] = {
    "application/json": {"anyOf": [_ref("Transcription"), _ref("VerboseTranscription")]},
    "text/plain": {"type": "string"},
    "application/x-subrip": {"type": "string"},
    "text/vtt": {"type": "string"},
    "text/event-stream": {"description": "one JSON object in the data of each event"},
}
