"""The routes of the OpenAI API."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from af3 import contract
from clients.version import VERSION
from serving.door import json_body
from serving.door.http_exchange import Call, Exchange, endpoint
from serving.door.openai import chat_request, speech_request, transcription_request
from serving.door.openai.chat_reply import write_chat
from serving.door.openai.models_list import ModelsList
from serving.door.openai.openai_errors import error_body, error_code
from serving.door.openai.openapi_page import OpenApiPages
from serving.door.openai.speech_reply import write_speech
from serving.door.openai.spoken_answers import SpokenAnswers
from serving.door.openai.transcription_reply import write_transcription
from serving.door.openai.transcription_request import Task
from serving.door.relay import Relay
from serving.door.relayed_answer import Answer
from serving.door.stall_watch import StallWatch
from serving.door.wire_request import WireRequest

PROTOCOL = "openai"  # in the journal
CLIENT_ID_HEADER = "x-client-request-id"
TASKS: tuple[Task, Task] = ("transcribe", "translate")
Parsed = tuple[WireRequest, str]


class OpenAiHttp:
    """Translates the OpenAI API for the relay."""

    prefix = "/v1/"
    error_body = staticmethod(error_body)

    def __init__(self, relay: Relay, watch: StallWatch):
        self._spoken = SpokenAnswers()
        models = ModelsList((*chat_request.CHAT_MODELS, *speech_request.SPEECH_MODELS))
        chat = Call(PROTOCOL, _ensemble, self._parse_chat, self._write_chat, error_body, error_code)
        speech = Call(PROTOCOL, _voice, _parse_speech, _write_speech, error_body, error_code)
        transcribe, translate = (
            Call(
                PROTOCOL,
                _ensemble,
                partial(_parse_form, task),
                _write_transcription,
                error_body,
                error_code,
                _AnyBytes,
            )
            for task in TASKS
        )
        self.routes: list[BaseRoute] = [
            Route("/v1/models", models.all, methods=["GET"]),
            Route("/v1/models/{model:path}", models.one, methods=["GET"]),
            Route("/v1/chat/completions", endpoint(relay, watch, chat), methods=["POST"]),
            Route("/v1/audio/speech", endpoint(relay, watch, speech), methods=["POST"]),
            Route("/v1/audio/transcriptions", endpoint(relay, watch, transcribe), methods=["POST"]),
            Route("/v1/audio/translations", endpoint(relay, watch, translate), methods=["POST"]),
            *OpenApiPages(VERSION).routes,
        ]

    def _parse_chat(self, request: Request, body: bytearray) -> Parsed:
        message, request.state.asked = chat_request.to_request(json_body.parse(body), self._spoken)
        return message, _client_id(request)

    async def _write_chat(self, exchange: Exchange, answer: Answer) -> None:
        await write_chat(exchange, answer, exchange.request.state.asked, self._spoken)


class _AnyBytes:
    """A form is not counted: its parser goes over it once."""

    def feed(self, buffer: bytes | bytearray, size: int) -> None:
        pass


def _parse_speech(request: Request, body: bytearray) -> Parsed:
    message, request.state.asked = speech_request.to_request(json_body.parse(body))
    return message, _client_id(request)


def _parse_form(task: Task, request: Request, body: bytearray) -> Parsed:
    kind = request.headers.get("content-type", "")
    message, request.state.asked = transcription_request.to_request(task, kind, body)
    return message, _client_id(request)


async def _write_speech(exchange: Exchange, answer: Answer) -> None:
    await write_speech(exchange, answer, exchange.request.state.asked)


async def _write_transcription(exchange: Exchange, answer: Answer) -> None:
    await write_transcription(exchange, answer, exchange.request.state.asked)


def _client_id(request: Request) -> str:
    return request.headers.get(CLIENT_ID_HEADER, "")


def _ensemble(request: Request) -> str:
    return contract.AUDIO_FLAMINGO.name


def _voice(request: Request) -> str:
    return contract.SPEECH_ALONE.name
