"""Odd requests over OpenAI's API before the live server: what passes the door is refused by the steps, by its field."""

from typing import Any

import pytest

from serving.door.door import Door
from tests.support import scrape
from tests.support.clips import clip
from tests.support.openai_api import CHAT, MODEL, SPOKEN, base64_of, form, post, request, user

CLIP = clip(0.5)
SAID = {"role": "assistant", "content": "A bell."}


def audio(data: str) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


TEXT = {"type": "text", "text": "What is it?"}
WRONG: dict[str, tuple[dict[str, Any], str | None]] = {
    "temperature below": ({"temperature": -0.1}, "temperature"),
    "temperature above": ({"temperature": 2.1}, "temperature"),
    "top_p of nothing": ({"top_p": 0}, "top_p"),
    "top_p above": ({"top_p": 1.1}, "top_p"),
    "a negative seed": ({"seed": -1}, "seed"),
    "a seed above": ({"seed": 2**63}, "seed"),
    "no tokens": ({"max_tokens": 0}, "max_tokens"),
    "no tokens, by the new name": ({"max_completion_tokens": 0}, "max_completion_tokens"),
    "too many tokens": ({"max_completion_tokens": 10**6}, "max_completion_tokens"),
    "five stops": ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    "an empty stop": ({"stop": ""}, "stop"),
    "a long stop": ({"stop": ["a", "b" * 65]}, "stop"),
    "top_k below": ({"top_k": -1}, "top_k"),
    "a penalty below": ({"repetition_penalty": 0.1}, "repetition_penalty"),
    "an adapter that is none": ({"adapter": "x" * 100_000}, "adapter"),
    "no time": ({"timeout": 0}, "timeout"),
    "a voice that is none": ({**SPOKEN, "audio": {"voice": "\u202e" * 70_000}}, "voice"),
    "a rate above": ({**SPOKEN, "rate": 9.0}, "rate"),
    "the system alone": ({"messages": [{"role": "system", "content": "a"}]}, None),
    "the assistant last": ({"messages": [user("a"), SAID]}, None),
    "the system in the middle": (
        {"messages": [user("a"), {"role": "system", "content": "b"}, user("c")]},
        None,
    ),
    "no base64": ({"messages": [message(audio("***"), TEXT)]}, "messages[0].content[0].input_audio.data"),
    "half of base64": (
        {"messages": [message(audio("QUJ"), TEXT)]},
        "messages[0].content[0].input_audio.data",
    ),
    "nothing in base64": (
        {"messages": [message(TEXT, audio(""))]},
        "messages[0].content[1].input_audio.data",
    ),
    "no sound": (
        {"messages": [message(audio(base64_of(CLIP)), TEXT), SAID, message(audio(base64_of(b"text" * 99)))]},
        "messages[2].content[0].input_audio.data",
    ),
    "an address": (
        {"messages": [message({"type": "audio_url", "audio_url": {"url": "http://a/b.wav"}}, TEXT)]},
        "messages[0].content[0].audio_url.url",
    ),
    "a file of the server": (
        {"messages": [message({"type": "audio_url", "audio_url": {"url": "file:///etc/passwd"}}, TEXT)]},
        "messages[0].content[0].audio_url.url",
    ),
    "257 clips": ({"messages": [message(*[audio(base64_of(CLIP))] * 257, TEXT)]}, None),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_is_refused_by_its_field(name: str, stream: bool, server: Door) -> None:
    fields, param = WRONG[name]
    reply = post(
        server,
        CHAT,
        {"model": MODEL, "messages": [user("a")], "max_tokens": 2, "stream": stream}
        | ({"max_tokens": None} if "max_completion_tokens" in fields else {})
        | fields,
    )
    assert reply.status == 400, reply.body[:500]
    error = reply.error
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) < 2000
    if param is not None:
        assert error["param"] == param


RIGHT: dict[str, dict[str, Any]] = {
    "the bounds": {"temperature": 2, "top_p": 1, "seed": 2**63 - 1, "top_k": 1024, "repetition_penalty": 2},
    "four stops": {"stop": ["\U0001f600", "\0", "é" * 64, " "]},
    "Unicode": {"messages": [user("\u202e\U0001f600 \0 <|im_end|> <sound> é\u0301")]},
    "several clips": {"messages": [message(audio(base64_of(CLIP)), TEXT, audio(base64_of(CLIP)), TEXT)]},
    "nothing asked": {"messages": [{"role": "user", "content": ""}]},
    "no parts": {"messages": [message()]},
    "a clip alone": {"messages": [message(audio(base64_of(CLIP)))]},
    "a data URI": {"messages": [message(audio("data:audio/wav;base64," + base64_of(CLIP)), TEXT)]},
    "lines in base64": {"messages": [message(audio(base64_of(CLIP)[:400] + "\n" + base64_of(CLIP)[400:]), TEXT)]},
    "everything of OpenAI that asks for nothing": {
        "n": 1, "logprobs": False, "tools": [], "tool_choice": "none", "response_format": {"type": "text"},
        "user": "\u202e" * 5000, "metadata": {"a": "b"}, "store": False, "service_tier": "auto",
        "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "parallel_tool_calls": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_odd_and_right_is_answered(name: str, server: Door) -> None:
    asked = {"model": MODEL, "messages": [user("a")], "max_tokens": 2, **RIGHT[name]}
    whole = post(server, CHAT, asked)
    assert whole.status == 200, whole.body[:500]
    assert whole.json["usage"]["prompt_tokens"] > 0
    streamed = post(server, CHAT, {**asked, "stream": True, "stream_options": {"include_usage": True}})
    *_, last = streamed.events()
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == whole.json["usage"]["prompt_tokens"]
    scrape.wait_until(lambda: server.admission.in_flight == 0)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "nan"}, "temperature"),
        ({"temperature": "-1"}, "temperature"),
        ({"seed": "-5"}, "seed"),
        ({"max_tokens": "0"}, "max_tokens"),
        ({"top_p": "inf"}, "top_p"),
    ],
)
def test_a_form_with_a_number_out_of_its_range_is_refused(
    fields: dict[str, str], param: str, server: Door
) -> None:
    data, headers = form({"model": MODEL, **fields}, CLIP)
    reply = request(server, "POST", "/v1/audio/transcriptions", data, headers)
    assert (reply.status, reply.error["param"]) == (400, param)


@pytest.mark.parametrize("file", [b"", b"RIFF", b"\0" * 5000, b"<html>" * 100])
def test_a_form_whose_file_is_no_sound_is_refused(file: bytes, server: Door) -> None:
    data, headers = form({"model": MODEL}, file)
    reply = request(server, "POST", "/v1/audio/transcriptions", data, headers)
    assert (reply.status, reply.error["param"]) == (400, "file")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": " \n\u202e"}, "input"),
        ({"input": "a" * 5000}, "input"),
        ({"speed": 0.1}, "speed"),
        ({"speed": 3}, "speed"),
        ({"voice": "nobody"}, "voice"),
    ],
)
def test_speech_out_of_its_range_is_refused(fields: dict[str, Any], param: str, server: Door) -> None:
    asked = {"model": "speech", "input": "Hello.", "response_format": "wav", **fields}
    reply = post(server, "/v1/audio/speech", asked)
    assert (reply.status, reply.error["param"]) == (400, param)
