"""The answer to /v1/audio/speech: the bytes of a file."""

from __future__ import annotations

import asyncio

from af3.errors import RequestError
from serving.door.answer_delta import answer_delta
from serving.door.collect import collect
from serving.door.http_exchange import Exchange
from serving.door.openai.openai_errors import WRONG_VALUE, FieldError
from serving.door.openai.sound_formats import CODED, MEDIA_TYPES, sound_stream, whole
from serving.door.openai.speech_request import SpeechAsked
from serving.door.relayed_answer import Answer

FIELDS = {"text": "input", "parameter 'rate'": "speed", "parameter 'voice'": "voice"}


async def write_speech(exchange: Exchange, answer: Answer, asked: SpeechAsked) -> None:
    """Raises RequestError, of which the exchange makes the reply."""
    try:
        if asked.sound in CODED:
            await _write_whole(exchange, answer, asked.sound)
        else:
            await _write_stream(exchange, answer, asked.sound)
    except RequestError as error:
        raise _named(error) from None


async def _write_whole(exchange: Exchange, answer: Answer, sound: str) -> None:
    found = answer_delta(await collect(answer))
    _refuse(found.speech_error, not found.speech)
    data = await asyncio.to_thread(whole, sound, found.speech, found.hz)
    await exchange.whole(data, MEDIA_TYPES[sound])


async def _write_stream(exchange: Exchange, answer: Answer, sound: str) -> None:
    stream = sound_stream(sound)
    async for response in answer:
        delta = answer_delta(response.infer_response)
        _refuse(delta.speech_error, False)
        if not delta.speech:
            continue
        if not exchange.started:
            await exchange.start({"content-type": MEDIA_TYPES[sound], "x-accel-buffering": "no"})
        await exchange.write(stream.push(delta.speech, delta.hz))
    _refuse("", not exchange.started)
    await exchange.write(stream.finish(), more=False)


def _refuse(failure: str, silent: bool) -> None:
    if failure:
        raise RequestError("INTERNAL", f"the voice failed: {failure}")
    if silent:
        raise FieldError("input: nothing in it can be spoken; send words", "input", WRONG_VALUE)


def _named(error: RequestError) -> RequestError:
    """The server's names for the fields → those of the client."""
    for ours, theirs in FIELDS.items():
        if error.message.startswith(f"{ours}:"):
            return FieldError(error.message, theirs, WRONG_VALUE, error.status)
    return error
