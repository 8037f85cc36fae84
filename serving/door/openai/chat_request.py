"""A chat completion request → the request to the relay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from af3 import contract
from af3.errors import RequestError
from serving.door import generate_request
from serving.door.caller import current_caller
from serving.door.json_body import LongString
from serving.door.openai.chat_fields import (
    MESSAGE_NOT_DONE,
    MESSAGE_WITHOUT_EFFECT,
    NOT_DONE,
    PART_WITHOUT_EFFECT,
    PARTS_NOT_DONE,
    ROLES_NOT_DONE,
    WITHOUT_EFFECT,
    AssistantMessage,
    AudioContent,
    AudioUrlContent,
    ChatRequest,
    Message,
    RefusalContent,
    TextContent,
)
from serving.door.openai.field_checks import SHOWN, field_error, take_out, without_nulls
from serving.door.openai.openai_errors import WRONG_VALUE, FieldError, model_not_found, unsupported
from serving.door.openai.sound_formats import CODED, coder
from serving.door.openai.spoken_answers import SpokenAnswers
from serving.door.wire_request import Piece, WireRequest

CHAT_MODELS = (contract.AUDIO_FLAMINGO.name, contract.AUDIO_FLAMINGO_SPEECH.name)
SAME_NAME = (
    "temperature",
    "top_p",
    "seed",
    "top_k",
    "repetition_penalty",
    "adapter",
    "read_cut_short",
    "timeout",
)
OTHER_NAMES = {"max_tokens": "max_completion_tokens", "think": "reasoning_effort"}
NOT_THINKING = ("none", "minimal")


@dataclass(frozen=True)
class Chat:
    """How the answer is written. `sound`: the format of a spoken answer, or None. `clips`: where each clip stands;
    `named`: fields that the server knows by another name.
    """

    model: str
    stream: bool
    include_usage: bool
    sound: str | None
    token_ids: bool
    clips: tuple[str, ...]
    named: Mapping[str, str]


def to_request(given: Mapping[str, Any], spoken: SpokenAnswers) -> tuple[WireRequest, Chat]:
    """Raises RequestError that names the field."""
    asked = _checked(given)
    if asked.model not in CHAT_MODELS:
        raise model_not_found(asked.model, CHAT_MODELS)
    sound = _sound(asked)
    clips: list[str | LongString] = []
    places: list[str] = []
    messages = [
        _message(message, f"messages[{place}]", clips, places, spoken)
        for place, message in enumerate(asked.messages)
    ]
    model = contract.AUDIO_FLAMINGO.name if sound is None else contract.AUDIO_FLAMINGO_SPEECH.name
    options = asked.stream_options
    usage = options is not None and bool(options.include_usage)
    chat = Chat(
        model=asked.model,
        stream=bool(asked.stream),
        include_usage=usage,
        sound=sound,
        token_ids=bool(asked.return_token_ids),
        clips=tuple(places),
        named={ours: theirs for ours, theirs in OTHER_NAMES.items() if getattr(asked, theirs) is not None},
    )
    inputs = {contract.AUDIO.name: [_uri(clip) for clip in clips], contract.MESSAGES.name: messages}
    try:
        request, _ = generate_request.to_request(model, inputs | _parameters(asked, sound))
    except RequestError as error:
        raise in_its_place(error, chat) from None
    return request, chat


def in_its_place(error: RequestError, chat: Chat) -> RequestError:
    """The server numbers clips, and has names of its own; the client has clips in messages, and OpenAI's names."""
    places = {f"audio[{number}]:": place for number, place in enumerate(chat.clips)}
    places |= {f"parameter '{ours}':": theirs for ours, theirs in chat.named.items()}
    for beginning, place in places.items():
        if error.message.startswith(beginning):
            return FieldError(error.message, place, WRONG_VALUE, error.status)
    return error


def _checked(given: Mapping[str, Any]) -> ChatRequest:
    fields = take_out(given, NOT_DONE, WITHOUT_EFFECT)
    if isinstance(fields.get("messages"), list):
        fields["messages"] = [
            _checked_message(message, f"messages[{place}]")
            for place, message in enumerate(fields["messages"])
        ]
    try:
        return ChatRequest.model_validate(fields)
    except ValidationError as error:
        raise field_error(error) from None


def _checked_message(message: Any, place: str) -> Any:
    if not isinstance(message, dict):
        return message
    message = without_nulls(message)
    role = message.get("role")
    if isinstance(role, str) and role in ROLES_NOT_DONE:
        raise unsupported(f"{place}.role", f"{role!r}: {ROLES_NOT_DONE[role]}")
    kept = take_out(message, MESSAGE_NOT_DONE, MESSAGE_WITHOUT_EFFECT, f"{place}.")
    if isinstance(kept.get("content"), list):
        kept["content"] = [
            _checked_part(part, f"{place}.content[{number}]") for number, part in enumerate(kept["content"])
        ]
    return kept


def _checked_part(part: Any, place: str) -> Any:
    if not isinstance(part, dict):
        return part
    part = without_nulls(part)
    kind = part.get("type")
    if isinstance(kind, str) and kind in PARTS_NOT_DONE:
        raise unsupported(place, f"a part of type {kind!r}: {PARTS_NOT_DONE[kind]}")
    return take_out(part, {}, PART_WITHOUT_EFFECT)


def _sound(asked: ChatRequest) -> str | None:
    """The format of a spoken answer. Raises FieldError for one that cannot be made."""
    if "audio" not in (asked.modalities or ()):
        if asked.audio is not None:
            raise FieldError(
                'audio: given, but modalities asks for text alone; send "modalities": ["text", "audio"]',
                "modalities",
                WRONG_VALUE,
            )
        return None
    if "text" not in (asked.modalities or ()):
        raise FieldError(
            'modalities: a spoken answer comes with its text; send ["text", "audio"]',
            "modalities",
            WRONG_VALUE,
        )
    named = asked.audio and asked.audio.format
    sound = named or ("pcm16" if asked.stream else "wav")
    if sound in CODED:
        if asked.stream:
            raise FieldError(
                f"audio.format: {sound} is made of the whole answer; stream wav or pcm16, or send stream: false",
                "audio.format",
                "unsupported_value",
            )
        coder()
    return sound


def _parameters(asked: ChatRequest, sound: str | None) -> dict[str, Any]:
    """Request parameters, by the server's names."""
    found = {name: getattr(asked, name) for name in SAME_NAME}
    found["max_tokens"] = _max_tokens(asked)
    found["stop"] = asked.stop or None
    think = _think(asked)
    if think:
        found["think"] = True
    if sound is not None:
        found["voice"] = asked.audio.voice if asked.audio else None
        found["rate"] = asked.rate
    elif asked.rate is not None:
        raise FieldError("rate: of speech, which is not asked for; leave it out", "rate", WRONG_VALUE)
    return found


def _max_tokens(asked: ChatRequest) -> int | None:
    old, new = asked.max_tokens, asked.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise FieldError(
            f"max_tokens: {old}, and max_completion_tokens {new}; send one of them", "max_tokens", WRONG_VALUE
        )
    return old if new is None else new


def _think(asked: ChatRequest) -> bool:
    effort = None if asked.reasoning_effort is None else asked.reasoning_effort not in NOT_THINKING
    if asked.think is not None and effort is not None and asked.think != effort:
        raise FieldError(
            f"think: {str(asked.think).lower()}, and reasoning_effort '{asked.reasoning_effort}'; send one of them",
            "think",
            WRONG_VALUE,
        )
    return bool(effort if asked.think is None else asked.think)


def _message(
    message: Message, place: str, clips: list[str | LongString], places: list[str], spoken: SpokenAnswers
) -> dict[str, Any]:
    """The message as the server takes it; appends its clips to `clips` and their paths in the request to `places`."""
    if isinstance(message, AssistantMessage):
        return {"role": message.role, "content": _said_before(message, place, spoken)}
    role = "system" if message.role == "developer" else message.role
    if isinstance(message.content, str):
        return {"role": role, "content": message.content}
    parts: list[dict[str, str]] = []
    for number, part in enumerate(message.content):
        if isinstance(part, TextContent):
            parts.append({"type": "text", "text": part.text})
            continue
        assert isinstance(part, AudioContent | AudioUrlContent)
        heard = isinstance(part, AudioContent)
        clips.append(part.input_audio.data if isinstance(part, AudioContent) else part.audio_url.url)
        places.append(f"{place}.content[{number}].{'input_audio.data' if heard else 'audio_url.url'}")
        parts.append({"type": "audio"})
    return {"role": role, "content": parts}


def _said_before(message: AssistantMessage, place: str, spoken: SpokenAnswers) -> str:
    if message.audio is not None:
        said = message.audio.transcript
        if said is None:
            said = spoken.transcript(message.audio.id, current_caller().name)
        if said is None and not message.content:
            raise FieldError(
                f"{place}.audio: '{message.audio.id[:SHOWN]}' is not kept here, or no longer;"
                " send its transcript as content",
                f"{place}.audio.id",
                "audio_not_found",
            )
        if said is not None:
            return said
    if isinstance(message.content, str):
        return message.content
    if message.content is not None:
        return "".join(
            part.refusal if isinstance(part, RefusalContent) else part.text for part in message.content
        )
    if message.refusal is not None:
        return message.refusal
    raise FieldError(
        f"{place}.content: missing; send what was said, or the audio id of a spoken answer",
        f"{place}.content",
        "missing_required_parameter",
    )


def _uri(clip: str | LongString) -> str | LongString | tuple[Piece, Piece]:
    """A data: URI. Bare base64 gets a head, so that its bytes are taken for nothing else; an address stays one."""
    start = clip[:16] if isinstance(clip, str) else bytes(clip.as_bytes()[:16]).decode("latin-1")
    if ":" in start:
        return clip
    return b"data:;base64,", clip.encode(errors="replace") if isinstance(clip, str) else clip.as_bytes()
