"""The fields of a chat completion request, as OpenAI names them, and what of them is not done here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from serving.door.json_body import LongString
from serving.door.openai.field_checks import NotDone
from serving.door.openai.json_values import Given, LongText, Text

SoundFormat = Literal["wav", "pcm16", "mp3", "opus", "flac", "aac"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

_NO_TOOLS = "the model calls no tools or functions"
_GREEDY = "only temperature, top_p, top_k and repetition_penalty shape the choice of tokens here"
NOT_DONE: Mapping[str, NotDone] = {
    "tools": NotDone(_NO_TOOLS, ([],)),
    "tool_choice": NotDone(_NO_TOOLS, ("none", "auto")),
    "functions": NotDone(_NO_TOOLS, ([],)),
    "function_call": NotDone(_NO_TOOLS, ("none", "auto")),
    "logprobs": NotDone("the server gives no log probabilities", (False,)),
    "top_logprobs": NotDone("the server gives no log probabilities", (0,)),
    "n": NotDone("one answer a request; send the request again for another", (1,)),
    "response_format": NotDone(
        "the answer is text, not held to a JSON schema; ask for JSON in the question", ({"type": "text"},)
    ),
    "frequency_penalty": NotDone(_GREEDY, (0,)),
    "presence_penalty": NotDone(_GREEDY, (0,)),
    "logit_bias": NotDone(_GREEDY, ({},)),
    "prediction": NotDone("no answer is predicted"),
    "verbosity": NotDone("the model has no such setting; ask for a short or long answer", ("medium",)),
    "web_search_options": NotDone("the server searches nothing"),
    "moderation": NotDone("the server moderates nothing"),
    "store": NotDone("nothing is stored", (False,)),
}
# About the client's own books, caches and prices. parallel_tool_calls says nothing without tools.
WITHOUT_EFFECT = frozenset(
    "metadata parallel_tool_calls prompt_cache_key prompt_cache_options prompt_cache_retention"
    " safety_identifier service_tier user".split()
)
ROLES_NOT_DONE: Mapping[str, str] = {"tool": _NO_TOOLS, "function": _NO_TOOLS}
PARTS_NOT_DONE: Mapping[str, str] = {
    "image_url": "the model sees no images",
    "file": "send the clip as input_audio",
    "video_url": "the model sees no films; send their sound as input_audio",
    "image": "the model sees no images",
    "audio": "send the clip as input_audio, with its base64 in data",
}
MESSAGE_NOT_DONE: Mapping[str, NotDone] = {
    "name": NotDone("the model is told roles, not names; put the name into the text"),
    "tool_calls": NotDone(_NO_TOOLS, ([],)),
    "function_call": NotDone(_NO_TOOLS),
    "tool_call_id": NotDone(_NO_TOOLS),
}
# Fields of an answer that are not part of the conversation; clients send them back with it.
MESSAGE_WITHOUT_EFFECT = frozenset({"annotations", "reasoning_content", "reasoning"})
PART_WITHOUT_EFFECT = frozenset({"prompt_cache_breakpoint", "uuid"})


class TextContent(Given):
    type: Literal["text"]
    text: Text


class RefusalContent(Given):
    type: Literal["refusal"]
    refusal: Text


class InputAudio(Given):
    """`format` is not trusted: the bytes say what they are."""

    data: LongText = Field(description="base64 of a whole audio file, or its data: URI")
    format: Text | None = None


class AudioContent(Given):
    type: Literal["input_audio"]
    input_audio: InputAudio


class AudioUrl(Given):
    url: LongText = Field(description="a data: URI with base64; the server fetches no addresses")


class AudioUrlContent(Given):
    type: Literal["audio_url"]
    audio_url: AudioUrl


UserPart = Annotated[TextContent | AudioContent | AudioUrlContent, Discriminator("type")]
AssistantPart = Annotated[TextContent | RefusalContent, Discriminator("type")]


def _kind(content: object) -> str:
    return "<parts>" if isinstance(content, list) else "<text>"


# Told apart first, so that an error is about the part that is wrong and not about a list that is no string.
UserContent = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[list[UserPart], Tag("<parts>")], Discriminator(_kind)
]
PlainContent = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[list[TextContent], Tag("<parts>")], Discriminator(_kind)
]
AssistantContent = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[list[AssistantPart], Tag("<parts>")], Discriminator(_kind)
]


class SystemMessage(Given):
    role: Literal["system", "developer"]
    content: PlainContent


class UserMessage(Given):
    role: Literal["user"]
    content: UserContent


class SpokenBefore(Given):
    """An earlier spoken answer: by the id that it came with, or with its transcript."""

    id: Text
    transcript: Text | None = None
    data: LongText | None = None
    expires_at: int | None = None


class AssistantMessage(Given):
    role: Literal["assistant"]
    content: AssistantContent | None = None
    audio: SpokenBefore | None = None
    refusal: Text | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Discriminator("role")]


def _name(voice: Any) -> Any:
    """OpenAI has {"id": …} for a voice of the client's own."""
    return voice["id"] if isinstance(voice, dict) and list(voice) == ["id"] else voice


Voice = Annotated[
    Text,
    BeforeValidator(_name),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"id": {"type": "string"}},
                    "required": ["id"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class AudioOut(Given):
    voice: Voice | None = Field(None, description="one of the server's, a mix, or one of OpenAI's names")
    format: SoundFormat | None = Field(None, description="wav, streamed pcm16; only these two are streamed")


class StreamOptions(Given):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


def _list(stop: Any) -> Any:
    return [stop] if isinstance(stop, str | LongString) else stop


Stop = Annotated[
    list[Text],
    BeforeValidator(_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class ChatRequest(Given):
    """`max_tokens`, `temperature` and the rest have the ranges of README.md; greedy unless `temperature` is above 0."""

    model: Text
    messages: list[Message] = Field(min_length=1)
    modalities: list[Literal["text", "audio"]] | None = None
    audio: AudioOut | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: Stop | None = None
    reasoning_effort: Effort | None = Field(None, description="anything but none and minimal: think first")
    think: bool | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    adapter: Text | None = None
    rate: float | None = Field(None, description="of the speech, 0.5 to 2")
    read_cut_short: bool | None = None
    timeout: int | None = Field(None, description="µs")
    return_token_ids: bool | None = Field(
        None, description="the answer's token ids in each choice, as vLLM gives them"
    )
