"""The answer to a chat completion request: as one JSON object, or as events."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from af3.errors import RequestError
from serving.door.answer_delta import AnswerDelta, answer_delta
from serving.door.caller import current_caller
from serving.door.collect import collect
from serving.door.http_exchange import STREAM_HEADERS, Exchange, event
from serving.door.openai.chat_request import Chat, in_its_place
from serving.door.openai.sound_formats import sound_stream, whole
from serving.door.openai.spoken_answers import SpokenAnswers
from serving.door.relayed_answer import Answer

REASONING = "reasoning_content"  # OpenAI keeps thoughts to itself; others have them here
DONE = event(b"[DONE]")


async def write_chat(exchange: Exchange, answer: Answer, chat: Chat, spoken: SpokenAnswers) -> None:
    """Raises RequestError, of which the exchange makes the reply or the last event."""
    try:
        if chat.stream:
            await _ChatStream(exchange, answer, chat, spoken).write()
        else:
            await _write_whole(exchange, answer, chat, spoken)
    except RequestError as error:
        raise in_its_place(error, chat) from None


async def _write_whole(exchange: Exchange, answer: Answer, chat: Chat, spoken: SpokenAnswers) -> None:
    found = answer_delta(await collect(answer))
    _refuse_silence(found)
    message: dict[str, Any] = {"role": "assistant", "content": found.text, "refusal": None}
    if found.thinking:
        message[REASONING] = found.thinking
    if chat.sound is not None:
        kept = spoken.announce()
        spoken.keep(kept, found.text, current_caller().name)
        sound = await asyncio.to_thread(_base64_file, chat.sound, found.speech, found.hz)
        message["content"] = None
        message["audio"] = {
            "id": kept.id,
            "data": sound,
            "expires_at": kept.expires_at,
            "transcript": found.text,
        }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": found.finish_reason}
    if chat.token_ids:
        choice["token_ids"] = ids_of(found)
    completion = {
        **_head(answer, chat, "chat.completion"),
        "choices": [choice],
        "usage": usage(found),
    }
    await exchange.whole(json.dumps(completion).encode())


class _ChatStream:
    """One answer as events, each a chunk of the completion."""

    def __init__(self, exchange: Exchange, answer: Answer, chat: Chat, spoken: SpokenAnswers):
        self._exchange = exchange
        self._answer = answer
        self._chat = chat
        self._spoken = spoken
        self._audio = spoken.announce() if chat.sound is not None else None
        self._sound = sound_stream(chat.sound) if chat.sound is not None else None
        self._head = _head(answer, chat, "chat.completion.chunk")
        self._said: list[str] = []
        self._last = AnswerDelta()

    async def write(self) -> None:
        async for response in self._answer:
            delta = answer_delta(response.infer_response)
            await self._send(self._events(delta))
            _refuse_silence(delta)
        await self._send(self._ending())
        await self._exchange.write(DONE, more=False)

    async def _send(self, events: bytes) -> None:
        if not events:
            return
        if not self._exchange.started:
            await self._exchange.start(STREAM_HEADERS)
            events = self._chunk(self._opening()) + events
        await self._exchange.write(events)

    def _opening(self) -> dict[str, Any]:
        opening: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        if self._audio is not None:
            opening |= {"content": None, "audio": {"id": self._audio.id, "transcript": ""}}
        return opening

    def _events(self, delta: AnswerDelta) -> bytes:
        if delta.finish_reason:
            self._last = delta
        events = b""
        if delta.thinking:
            events += self._chunk({REASONING: delta.thinking})
        ids = ids_of(delta) if self._chat.token_ids else []
        if delta.text or ids:
            self._said.append(delta.text)
            events += self._chunk(self._text(delta.text), token_ids=ids)
        if delta.speech and self._sound is not None:
            events += self._sound_chunk(self._sound.push(delta.speech, delta.hz))
        return events

    def _text(self, text: str) -> dict[str, Any]:
        if self._audio is None:
            return {"content": text}
        return {"audio": {"id": self._audio.id, "transcript": text}}

    def _sound_chunk(self, data: bytes) -> bytes:
        if not data or self._audio is None:
            return b""
        return self._chunk({"audio": {"id": self._audio.id, "data": base64.b64encode(data).decode()}})

    def _ending(self) -> bytes:
        events = b""
        if self._audio is not None and self._sound is not None:
            self._spoken.keep(self._audio, "".join(self._said), current_caller().name)
            events += self._sound_chunk(self._sound.finish())
            events += self._chunk({"audio": {"id": self._audio.id, "expires_at": self._audio.expires_at}})
        events += self._chunk({}, self._last.finish_reason or "stop")
        if self._chat.include_usage:
            events += event(json.dumps({**self._head, "choices": [], "usage": usage(self._last)}).encode())
        return events

    def _chunk(
        self, delta: dict[str, Any], finish_reason: str | None = None, token_ids: Sequence[int] = ()
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        if token_ids:
            choice["token_ids"] = token_ids
        chunk = {**self._head, "choices": [choice]}
        if self._chat.include_usage:
            chunk["usage"] = None
        return event(json.dumps(chunk).encode())


def ids_of(found: AnswerDelta) -> list[int]:
    ids: list[int] = np.frombuffer(found.token_ids, "<i4").tolist()
    return ids


def usage(last: AnswerDelta) -> dict[str, Any]:
    """Tokens of the prompt, of which those of its clips, and of the answer; from its last response."""
    return {
        "prompt_tokens": last.prompt_tokens,
        "completion_tokens": last.token_count,
        "total_tokens": last.prompt_tokens + last.token_count,
        "prompt_tokens_details": {"audio_tokens": last.audio_tokens, "cached_tokens": 0},
        "completion_tokens_details": {"audio_tokens": 0, "text_tokens": last.token_count},
    }


def _head(answer: Answer, chat: Chat, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": chat.model,
    }


def _refuse_silence(delta: AnswerDelta) -> None:
    """The text of an answer goes on without its voice; a client that asked for speech must know."""
    if delta.speech_error:
        raise RequestError("INTERNAL", f"the voice failed: {delta.speech_error}")


def _base64_file(sound: str, pcm: bytes, hz: int) -> str:
    return base64.b64encode(whole(sound, pcm, hz or 24_000)).decode()
