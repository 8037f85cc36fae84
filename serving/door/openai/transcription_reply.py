"""The answer to a transcription or translation: JSON, text, subtitles or events."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np

from af3.errors import RequestError
from serving.door.answer_delta import AnswerDelta, answer_delta
from serving.door.collect import collect
from serving.door.http_exchange import STREAM_HEADERS, Exchange, event
from serving.door.openai.openai_errors import WRONG_VALUE, FieldError
from serving.door.openai.subtitles import srt, vtt
from serving.door.openai.transcription_request import Transcription
from serving.door.relayed_answer import Answer

TOKENS_PER_S = 25  # of audio
TEXT_TYPES = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}


async def write_transcription(exchange: Exchange, answer: Answer, asked: Transcription) -> None:
    """Raises RequestError, of which the exchange makes the reply or the last event."""
    try:
        if asked.stream:
            await _write_stream(exchange, answer)
            return
        found = answer_delta(await collect(answer))
    except RequestError as error:
        raise _of_file(error) from None
    if asked.form in TEXT_TYPES:
        text = _plain(found, asked)
        await exchange.whole(text.encode(), f"{TEXT_TYPES[asked.form]}; charset=utf-8")
        return
    body = (
        _verbose(found, asked)
        if asked.form == "verbose_json"
        else {"text": found.text.strip(), "usage": _usage(found)}
    )
    await exchange.whole(json.dumps(body).encode())


async def _write_stream(exchange: Exchange, answer: Answer) -> None:
    text, last = "", AnswerDelta()
    await_first = True
    async for response in answer:
        if not response.infer_response.outputs:
            continue
        delta = answer_delta(response.infer_response)
        last = delta if delta.finish_reason else last
        said = delta.text.lstrip() if await_first else delta.text
        await_first = await_first and not said
        text += said
        if said:
            await _send(exchange, {"type": "transcript.text.delta", "delta": said})
    await _send(exchange, {"type": "transcript.text.done", "text": text, "usage": _usage(last)})
    await exchange.write(b"", more=False)


async def _send(exchange: Exchange, found: dict[str, Any]) -> None:
    if not exchange.started:
        await exchange.start(STREAM_HEADERS)
    await exchange.write(event(json.dumps(found).encode()))


def _plain(found: AnswerDelta, asked: Transcription) -> str:
    if asked.form == "text":
        return found.text.strip() + "\n"
    return (srt if asked.form == "srt" else vtt)(found.text, _seconds(found))


def _verbose(found: AnswerDelta, asked: Transcription) -> dict[str, Any]:
    """One segment, since the model tells no times. What Whisper measures and AF3 does not is 0: nothing is doubted."""
    text, seconds = found.text.strip(), _seconds(found)
    data = text.encode()
    segment = {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": seconds,
        "text": text,
        "tokens": np.frombuffer(found.token_ids, "<i4").tolist(),
        "temperature": asked.temperature,
        "avg_logprob": 0.0,
        "compression_ratio": round(len(data) / len(zlib.compress(data)), 3),
        "no_speech_prob": 0.0,
    }
    return {
        "task": asked.task,
        "language": "english",
        "duration": seconds,
        "text": text,
        "segments": [segment],
        "usage": {"type": "duration", "seconds": seconds},
    }


def _usage(last: AnswerDelta) -> dict[str, Any]:
    return {
        "type": "tokens",
        "input_tokens": last.prompt_tokens,
        "input_token_details": {
            "audio_tokens": last.audio_tokens,
            "text_tokens": last.prompt_tokens - last.audio_tokens,
        },
        "output_tokens": last.token_count,
        "total_tokens": last.prompt_tokens + last.token_count,
    }


def _seconds(found: AnswerDelta) -> float:
    """Length of the clip, to the 40 ms of an audio token."""
    return found.audio_tokens / TOKENS_PER_S


def _of_file(error: RequestError) -> RequestError:
    if error.message.startswith("audio[0]:"):
        return FieldError(error.message, "file", WRONG_VALUE, error.status)
    return error
