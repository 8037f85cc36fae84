"""Checks conversations and renders them in the checkpoint's chat format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from af3.errors import invalid

# The sentence AF3's reasoning was trained with (NVIDIA/audio-flamingo, README of branch audio_flamingo_3).
THINK_SUFFIX = "\nPlease think and reason about the input audio before you respond."
MAX_MESSAGES = 256


class AudioPart(BaseModel):
    """Stands for the next clip of `audio`."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["audio"] = "audio"


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"] = "text"
    text: str


Part = Annotated[AudioPart | TextPart, Field(discriminator="type")]


def _text_or_parts(content: object) -> str:
    return "<parts>" if isinstance(content, list) else "<text>"


# A tagged union, so that an error names the wrong part instead of saying that a list is not a string.
Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[Part], Tag("<parts>")], Discriminator(_text_or_parts)
]


class Message(BaseModel):
    """One turn. `content` is a text or a list of parts, as in the OpenAI and Hugging Face chat formats."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: Content

    @property
    def parts(self) -> Sequence[AudioPart | TextPart]:
        return [TextPart(text=self.content)] if isinstance(self.content, str) else self.content

    @property
    def clip_count(self) -> int:
        return sum(isinstance(part, AudioPart) for part in self.parts)

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


class _Conversation(BaseModel):
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)


def from_prompt(prompt: str, clips: int) -> list[Message]:
    """Build one user turn: all clips first, then the text, as in Transformers' template."""
    parts: list[Part] = [*(AudioPart() for _ in range(clips)), TextPart(text=prompt)]
    return [Message(role="user", content=parts)]


def from_json(text: str, clips: int) -> list[Message]:
    """Parse the JSON of `messages`.

    Raises RequestError that names the wrong part, and when audio parts and clips differ in number.
    """
    try:
        turns = _without_nulls(json.loads(text))
        _refuse_clips_inside(turns)
        messages = _Conversation.model_validate({"messages": turns}).messages
    except ValidationError as error:
        raise invalid(_sentence(error)) from None
    except (ValueError, RecursionError):  # also numbers and nesting beyond what Python parses
        raise invalid("messages: not valid JSON; send a list of {'role', 'content'}") from None
    _refuse_half_characters(messages)
    _refuse_disorder(messages)
    parts = sum(message.clip_count for message in messages)
    if parts != clips:
        raise invalid(
            f"messages: {parts} audio part(s) for {clips} clip(s) in audio; each clip needs one {{'type': 'audio'}}"
        )
    return messages


def _without_nulls(turns: object) -> object:
    """Without null where a turn or a part has no such field, as rows of a table spell it (Hugging Face datasets)."""
    if not isinstance(turns, list):
        return turns
    found = [_filled(turn) for turn in turns]
    for turn in found:
        if isinstance(turn, dict) and isinstance(turn.get("content"), list):
            turn["content"] = [_filled(part) for part in turn["content"]]
    return found


def _filled(given: object) -> object:
    if not isinstance(given, dict):
        return given
    return {name: value for name, value in given.items() if value is not None}


def _refuse_clips_inside(turns: object) -> None:
    """Refuse parts that contain a clip: OpenAI's `input_audio`, vLLM's `audio_url`, Hugging Face's `audio` + path."""
    for place, turn in enumerate(turns if isinstance(turns, list) else ()):
        parts = turn.get("content") if isinstance(turn, dict) else None
        for number, part in enumerate(parts if isinstance(parts, list) else ()):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("input_audio", "audio_url") or (kind == "audio" and len(part) > 1):
                raise invalid(
                    f"messages[{place}].content[{number}]: a part of type {kind!r} that brings its clip; send the"
                    " file's bytes, or data:audio/wav;base64,…, in audio and here {'type': 'audio'} alone"
                )


def _refuse_half_characters(messages: Sequence[Message]) -> None:
    """Refuse lone surrogates (`\\ud800`), which JSON can spell."""
    for place, message in enumerate(messages):
        try:
            message.text.encode()
        except UnicodeEncodeError as error:
            raise invalid(
                f"messages[{place}]: character {error.start} of its text is half of a surrogate pair; send whole"
                " characters"
            ) from None


def _refuse_disorder(messages: Sequence[Message]) -> None:
    for place, message in enumerate(messages):
        if message.role == "system" and place > 0:
            raise invalid(f"messages[{place}]: a system message can only come first; move its text there")
        if message.role != "user" and message.clip_count:
            raise invalid(f"messages[{place}]: only a user message holds audio, not one of {message.role}")
    if messages[-1].role != "user":
        raise invalid("messages: the last one must be of role user; that is the one to be answered")


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    place, before = "", None
    for step in first["loc"]:
        if isinstance(step, int):
            place += f"[{step}]"
        elif not step.startswith("<") and before != "<parts>":
            place += f".{step}"
        # The step after a part's number is pydantic's tag: the kind of part that it assumed.
        before = before if isinstance(step, int) else step
    return f"messages{place.removeprefix('.messages')}: {first['msg']}"


@dataclass(frozen=True)
class Control:
    """A control token by name, such as `<|im_start|>`."""

    token: str


@dataclass(frozen=True)
class ClipPlace:
    """Where the audio tokens of the next clip go."""


Piece = Control | ClipPlace | str


def layout(
    messages: Sequence[Message], default_system_prompt: str | None, think: bool = False
) -> list[Piece]:
    """Render ChatML with clips in their places, up to where the assistant's answer begins.

    Equals AF3's template in Transformers wherever that can express the conversation: in a message with one clip, the
    clip comes before the texts. That template merges several clips of a message into one; here they keep their places
    among the texts, as in AF3's training data (NVIDIA/audio-flamingo, llava/data/dataset.py). Adjacent texts are
    joined, because a tokenizer may merge across them.
    """
    if messages[0].role != "system" and default_system_prompt is not None:
        messages = [Message(role="system", content=default_system_prompt), *messages]
    pieces: list[Piece] = []
    for message in messages:
        body = _body(message) + ([THINK_SUFFIX] if think and message is messages[-1] else [])
        pieces += [Control("<|im_start|>"), f"{message.role}\n", *body, Control("<|im_end|>"), "\n"]
    return _joined([*pieces, Control("<|im_start|>"), "assistant\n"])


def _body(message: Message) -> list[Piece]:
    if message.clip_count == 1:
        return [ClipPlace(), message.text]
    return [part.text if isinstance(part, TextPart) else ClipPlace() for part in message.parts]


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        elif piece != "":
            joined.append(piece)
    return joined
