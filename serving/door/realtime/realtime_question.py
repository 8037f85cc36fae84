"""A conversation → a request of the relay, and what it cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from af3.errors import RequestError
from clients.request import Parameters, messages_request
from serving.door import wire_request
from serving.door.realtime.audio_formats import Clip
from serving.door.realtime.conversation_items import Asked
from serving.door.realtime.realtime_events import Event
from serving.door.relay import Question, Relay
from serving.door.relayed_answer import Answer
from serving.door.wire_request import WireRequest

PROTOCOL = "realtime"
TOKENS_PER_S = 25  # of sound


def build(model: str, question: Asked, parameters: dict[str, Any]) -> WireRequest:
    """The request of a conversation. Takes milliseconds a megabyte: call it in a thread."""
    files = [clip.wav() for clip in question.clips]
    given: Parameters = parameters  # type: ignore[assignment]
    message = messages_request(model, question.messages, files, None, None, given)
    request, _ = wire_request.read(message.SerializeToString())
    return request


async def ask(
    relay: Relay, model: str, question: Asked, parameters: dict[str, Any], client_id: str
) -> Answer:
    """Raises RequestError when it is refused."""
    size = sum(len(clip.pcm) for clip in question.clips) + sum(len(str(one)) for one in question.messages)
    upload = None
    try:
        relay.admission.check()
        upload = relay.uploads.open(size)
        upload.grow(size)
        request = await asyncio.to_thread(build, model, question, parameters)
    except RequestError as error:
        relay.refuse(PROTOCOL, model, client_id, size, error)
        raise
    except BaseException:
        if upload is not None:
            upload.release()
        raise
    return relay.ask(Question(PROTOCOL, request, client_id, size, upload=upload))


@dataclass
class Usage:
    """Tokens: of the whole prompt, of its clips, and of the answer."""

    prompt_tokens: int = 0
    audio_tokens: int = 0
    tokens: int = 0

    def hears(self, clips: Iterable[Clip]) -> None:
        """Count the audio of the prompt's clips: the whole prompt is counted only by the last response."""
        self.audio_tokens = self.prompt_tokens = sum(int(TOKENS_PER_S * clip.seconds) for clip in clips)

    def shown(self) -> Event:
        return {
            "total_tokens": self.prompt_tokens + self.tokens,
            "input_tokens": self.prompt_tokens,
            "output_tokens": self.tokens,
            "input_token_details": {
                "text_tokens": self.prompt_tokens - self.audio_tokens,
                "audio_tokens": self.audio_tokens,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": self.tokens, "audio_tokens": 0},
        }
