"""A conversation → a request of the relay, and what it cost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2

from af3.errors import RequestError
from clients.request import Parameters, messages_request
from serving.door.realtime.conversation_items import Asked
from serving.door.realtime.realtime_events import Event
from serving.door.relay import Question, Relay
from serving.door.relayed_answer import Answer

PROTOCOL = "realtime"
TOKENS_PER_S = 25  # of sound


def build(model: str, question: Asked, parameters: dict[str, Any]) -> service_pb2.ModelInferRequest:
    """The request of a conversation. Takes milliseconds a megabyte: call it in a thread."""
    files = [clip.wav() for clip in question.clips]
    given: Parameters = parameters  # type: ignore[assignment]
    return messages_request(model, question.messages, files, None, None, given)


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
        message = await asyncio.to_thread(build, model, question, parameters)
        serialised = await asyncio.to_thread(message.SerializeToString)
    except RequestError as error:
        relay.refuse(PROTOCOL, model, client_id, size, error)
        raise
    except BaseException:
        if upload is not None:
            upload.release()
        raise
    return relay.ask(Question(PROTOCOL, message, client_id, size, serialised, upload=upload))


@dataclass
class Usage:
    audio_s: float = 0.0
    tokens: int = 0

    def shown(self) -> Event:
        """Tokens of the prompt's text are counted by the server's steps only, and are not in here."""
        heard = int(TOKENS_PER_S * self.audio_s)
        return {
            "total_tokens": heard + self.tokens,
            "input_tokens": heard,
            "output_tokens": self.tokens,
            "input_token_details": {
                "text_tokens": 0,
                "audio_tokens": heard,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": self.tokens, "audio_tokens": 0},
        }
