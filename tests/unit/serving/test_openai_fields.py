"""Every field of a chat request is used, refused by name, or known to have no effect; Triton is a stand-in."""

from typing import Any

import openai
import pytest

from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.openai_api import (
    CHAT,
    SPOKEN,
    asked,
    body,
    client,
    parameters,
    post,
)

HOST = "127.0.0.1"


# What OpenAI's client calls a thing → what the server's request parameter is.
USED = {
    "max_tokens": (7, {"max_tokens": 7}),
    "max_completion_tokens": (7, {"max_tokens": 7}),
    "temperature": (0.5, {"temperature": 0.5}),
    "top_p": (0.5, {"top_p": 0.5}),
    "seed": (3, {"seed": 3}),
    "stop": ("[end", {"stop": '["[end"]'}),
    "reasoning_effort": ("low", {"think": True}),
    "think": (True, {"think": True}),
    "top_k": (5, {"top_k": 5}),
    "repetition_penalty": (1.5, {"repetition_penalty": 1.5}),
    "adapter": ("music", {"adapter": "music"}),
    "read_cut_short": (True, {"read_cut_short": True}),
    "timeout": (10**8, {"timeout": 10**8}),
}


@pytest.mark.parametrize("field", USED)
def test_a_field_reaches_the_server(field: str, triton: FakeTriton, door: Door) -> None:
    value, expected = USED[field]
    assert post(door, CHAT, body(**{field: value})).status == 200
    assert parameters(asked(triton)) == expected


def test_stop_strings_and_no_thinking(triton: FakeTriton, door: Door) -> None:
    post(door, CHAT, body(stop=["a", "b"], reasoning_effort="none", temperature=None))
    assert parameters(asked(triton)) == {"stop": '["a", "b"]'}
    post(door, CHAT, body(stop=None, think=False))
    assert parameters(asked(triton)) == {}


NOT_DONE = {
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": "required",
    "functions": [{"name": "f"}],
    "function_call": {"name": "f"},
    "logprobs": True,
    "top_logprobs": 2,
    "n": 2,
    "response_format": {"type": "json_object"},
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "logit_bias": {"1": 2},
    "prediction": {"type": "content", "content": "a"},
    "verbosity": "low",
    "web_search_options": {},
    "moderation": {"model": "x"},
    "store": True,
}
NEUTRAL = {
    "tools": [],
    "tool_choice": "auto",
    "logprobs": False,
    "top_logprobs": 0,
    "n": 1,
    "response_format": {"type": "text"},
    "frequency_penalty": 0.0,
    "presence_penalty": 0,
    "logit_bias": {},
    "verbosity": "medium",
    "store": False,
}
WITHOUT_EFFECT = {
    "metadata": {"a": "b"},
    "user": "me",
    "safety_identifier": "x",
    "service_tier": "auto",
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "parallel_tool_calls": True,
}
ELSEWHERE = {"model", "messages", "modalities", "audio", "stream", "stream_options"}


@pytest.mark.parametrize("field", NOT_DONE)
def test_an_unsupported_field_is_refused_by_name(field: str, door: Door) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client(door).chat.completions.create(**body(), extra_body={field: NOT_DONE[field]})
    assert (refused.value.param, refused.value.code) == (field, "unsupported_parameter")
    assert refused.value.type == "invalid_request_error"
    assert refused.value.body["message"].startswith(f"{field}: ")


@pytest.mark.parametrize("field", [*NEUTRAL, *WITHOUT_EFFECT])
def test_default_values_change_nothing(field: str, triton: FakeTriton, door: Door) -> None:
    value = {**NEUTRAL, **WITHOUT_EFFECT}[field]
    for given in (value, None):
        assert post(door, CHAT, body(**{field: given})).status == 200
        assert parameters(asked(triton)) == {}


def test_no_field_of_openai_is_dropped_silently() -> None:
    """Every field that the client can send is used, refused, or known to have no effect on an answer."""
    from openai.types.chat import completion_create_params as params

    theirs = {
        *params.CompletionCreateParamsBase.__annotations__,
        *params.CompletionCreateParamsStreaming.__annotations__,
    }
    assert theirs <= {*USED, *NOT_DONE, *WITHOUT_EFFECT, *ELSEWHERE}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({"colour": 1}, "colour"),
    "a text for a number": ({"max_tokens": "7"}, "max_tokens"),
    "a truth value for a number": ({"n": True}, "n"),
    "no messages": ({"messages": []}, "messages"),
    "messages that are none": ({"messages": "hi"}, "messages"),
    "a role that is none": ({"messages": [{"role": "king", "content": "a"}]}, "messages[0].role"),
    "a tool's answer": (
        {"messages": [{"role": "tool", "tool_call_id": "1", "content": "a"}]},
        "messages[0].role",
    ),
    "a name": ({"messages": [{"role": "user", "content": "a", "name": "Ann"}]}, "messages[0].name"),
    "a tool call": (
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]},
        "messages[0].tool_calls",
    ),
    "nothing said": ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]},
        "messages[0].content[0]",
    ),
    "a part without text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    "an unknown field of a part": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "x": 1}}]}
            ]
        },
        "messages[0].content[0].input_audio.x",
    ),
    "sound without its modality": ({"audio": {"voice": "alloy", "format": "wav"}}, "modalities"),
    "sound without text": ({"modalities": ["audio"]}, "modalities"),
    "a format that is none": ({**SPOKEN, "audio": {"format": "midi"}}, "audio.format"),
    "mp3 in a stream": ({**SPOKEN, "audio": {"format": "mp3"}, "stream": True}, "audio.format"),
    "two lengths": ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
    "two minds": ({"think": False, "reasoning_effort": "high"}, "think"),
    "a rate without speech": ({"rate": 1.5}, "rate"),
    "an effort that is none": ({"reasoning_effort": "heroic"}, "reasoning_effort"),
    "an answer that is not kept": (
        {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}, {"role": "user", "content": "a"}]},
        "messages[0].audio.id",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_field_is_named(name: str, door: Door) -> None:
    fields, param = WRONG[name]
    reply = post(door, CHAT, {**body(), **fields})
    assert (reply.status, reply.error["param"]) == (400, param)
    assert reply.error["type"] == "invalid_request_error"
    assert param.removesuffix(".id") in reply.error["message"]


def test_a_body_that_is_no_request_is_refused(door: Door) -> None:
    for data in (b"", b"{", b"[]", b'"a"', b"{}", b'{"model": "x", "model": "y"}', b'{"model": NaN}'):
        reply = post(door, CHAT, data)
        assert reply.status == 400
        assert reply.error["type"] == "invalid_request_error"
