"""Requests that no honest client sends: each is answered, or refused in OpenAI's words, never a fault of the server.

Triton is a stand-in, so that what is refused is refused by the door.
"""

import json
from typing import Any

import pytest
from openai.types.chat import completion_create_params as chat_params

from serving.door.door import Door
from serving.door.json_body import LONG_STRING
from serving.door.openai.chat_fields import ChatRequest
from serving.door.openai.speech_request import SpeechRequest
from tests.support.openai_api import CHAT, Reply, body, form, post, request

LONG = "x" * (LONG_STRING + 10)
# None asks for nothing; of the others some are right for some fields.
ODD: dict[str, Any] = {
    "null": None,
    "true": True,
    "nought": 0,
    "minus one": -1,
    "a fraction": 1.5,
    "a tiny number": 1e-300,
    "a huge number": 10**30,
    "an empty text": "",
    "a text": "wrong",
    "a text of Unicode": "\u202e\U0001f600\0é",
    "half of a pair": "\ud800",
    "a long text": LONG,
    "an empty list": [],
    "a list": [None, 1, "a"],
    "a list of long texts": [LONG, LONG],
    "an empty object": {},
    "an object": {"type": "wrong", "id": 1, "\ud800": LONG},
    "deep": json.loads("[" * 400 + "]" * 400),
}
CHAT_FIELDS = sorted(
    {
        *ChatRequest.model_fields,
        *chat_params.CompletionCreateParamsBase.__annotations__,
        *chat_params.CompletionCreateParamsStreaming.__annotations__,
        "unknown",
        "_",
        "",
        "a.b[0]",
        "é\ud800",
    }
)


def refusal(reply: Reply) -> dict[str, Any]:
    """The error of a refused request, of which nothing of the server's insides can be read."""
    assert 400 <= reply.status < 500, (reply.status, reply.body[:300])
    error = reply.error
    assert error["message"] and isinstance(error["message"], str)
    assert len(error["message"]) < 2000, error["message"][:300]
    for inside in ("Traceback", "object at 0x", "serving.", "pydantic", ".py"):
        assert inside not in error["message"], error["message"][:300]
    assert error["type"] in ("invalid_request_error", "rate_limit_error")
    assert isinstance(error["code"], str)
    return error


@pytest.mark.parametrize("field", CHAT_FIELDS)
def test_an_odd_value_of_a_field_is_taken_or_refused_by_name(field: str, door: Door) -> None:
    for name, value in ODD.items():
        reply = post(door, CHAT, {**body(), field: value})
        if reply.status == 200:
            continue
        param = refusal(reply)["param"]
        named = field in ("", "é\ud800", "a.b[0]", "audio") or (param or "").startswith(
            field.split("_completion")[0][:10]
        )
        assert named or name == "half of a pair", (name, param, reply.error)


@pytest.mark.parametrize("field", [*SpeechRequest.model_fields, "instructions", "stream_format", "unknown"])
def test_an_odd_value_of_a_field_of_speech_is_taken_or_refused(field: str, door: Door) -> None:
    right = {"model": "speech", "input": "say=hi|big=8820", "response_format": "pcm"}
    for value in ODD.values():
        reply = post(door, "/v1/audio/speech", {**right, field: value})
        if reply.status != 200:
            refusal(reply)


PLACES = {
    "message": lambda odd: {"messages": [odd]},
    "role": lambda odd: {"messages": [{"role": odd, "content": "a"}]},
    "content": lambda odd: {"messages": [{"role": "user", "content": odd}]},
    "content of the system": lambda odd: {"messages": [{"role": "system", "content": odd}]},
    "content of the assistant": lambda odd: {"messages": [{"role": "assistant", "content": odd}]},
    "refusal": lambda odd: {"messages": [{"role": "assistant", "content": None, "refusal": odd}]},
    "spoken": lambda odd: {"messages": [{"role": "assistant", "audio": odd}]},
    "spoken id": lambda odd: {"messages": [{"role": "assistant", "audio": {"id": odd}}]},
    "part": lambda odd: {"messages": [{"role": "user", "content": [odd]}]},
    "type": lambda odd: {"messages": [{"role": "user", "content": [{"type": odd, "text": "a"}]}]},
    "text": lambda odd: {"messages": [{"role": "user", "content": [{"type": "text", "text": odd}]}]},
    "input_audio": lambda odd: {
        "messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": odd}]}]
    },
    "data": lambda odd: {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "input_audio", "input_audio": {"data": odd, "format": odd}}],
            }
        ]
    },
    "url": lambda odd: {
        "messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": odd}}]}]
    },
    "voice": lambda odd: {"modalities": ["text", "audio"], "audio": {"voice": odd, "format": "wav"}},
    "voice id": lambda odd: {"modalities": ["text", "audio"], "audio": {"voice": {"id": odd}}},
    "format": lambda odd: {"modalities": ["text", "audio"], "audio": {"format": odd}},
    "modality": lambda odd: {"modalities": [odd]},
    "stream option": lambda odd: {"stream": True, "stream_options": {"include_usage": odd, "other": odd}},
    "stop": lambda odd: {"stop": [odd, "a"]},
    "response format": lambda odd: {"response_format": {"type": odd}},
}


@pytest.mark.parametrize("place", PLACES)
def test_an_odd_value_inside_is_taken_or_refused(place: str, door: Door) -> None:
    for value in ODD.values():
        for stream in (False, True):
            reply = post(door, CHAT, {**body(), "stream": stream, **PLACES[place](value)})
            if reply.status != 200:
                refusal(reply)


@pytest.mark.parametrize("depth", [100, 300, 450, 600, 900, 1100, 50_000])
@pytest.mark.parametrize("path", [CHAT, "/v1/audio/speech", "/v2/models/audio_flamingo/generate"])
def test_deep_bodies_are_refused(depth: int, path: str, door: Door) -> None:
    """Also with a long text at their end, which is put back into what was parsed."""
    for inner in (b"1", b'"' + LONG.encode() + b'"'):
        for opened, closed in ((b"[", b"]"), (b'{"a":', b"}")):
            data = b'{"model": "x", "messages": ' + opened * depth + inner + closed * depth + b"}"
            reply = post(door, path, data)
            assert 400 <= reply.status < 500, (depth, path, reply.body[:300])
            assert reply.json["error"]


MALFORMED = {
    "no boundary": ("multipart/form-data", b"--x\r\n\r\n--x--"),
    "an empty boundary": ('multipart/form-data; boundary=""', b"----\r\n"),
    "another type": ("application/json", b"{}"),
    "no type": ("", b"--x--"),
    "a boundary of Unicode": ("multipart/form-data; boundary=\xe9", b"--\xe9\r\n\r\na\r\n--\xe9--\r\n"),
    "a long boundary": (f"multipart/form-data; boundary={'b' * 3000}", b"--b--"),
    "nothing": ("multipart/form-data; boundary=x", b""),
    "the end alone": ("multipart/form-data; boundary=x", b"--x--\r\n"),
    "no end": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\na',
    ),
    "no name": (
        "multipart/form-data; boundary=x",
        b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n",
    ),
    "no headers": ("multipart/form-data; boundary=x", b"--x\r\n\r\na\r\n--x--\r\n"),
    "a header without end": ("multipart/form-data; boundary=x", b"--x\r\n" + b"A" * 9000),
    "headers without end": ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 5000),
    "bare line feeds": (
        "multipart/form-data; boundary=x",
        b'--x\nContent-Disposition: form-data; name="a"\n\na\n--x--\n',
    ),
    "a name of Unicode": (
        "multipart/form-data; boundary=x",
        '--x\r\nContent-Disposition: form-data; name="é\u202e"\r\n\r\na\r\n--x--\r\n'.encode(),
    ),
    "a name that is no UTF-8": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="\xff\xfe"\r\n\r\na\r\n--x--\r\n',
    ),
    "a parameter without a value": (
        'multipart/form-data; boundary=x; charset="',
        b'--x\r\nContent-Disposition: form-data; name="\r\n\r\na\r\n--x--\r\n',
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_odd_forms_are_refused(name: str, door: Door) -> None:
    kind, data = MALFORMED[name]
    reply = request(door, "POST", "/v1/audio/transcriptions", data, {"content-type": kind} if kind else {})
    refusal(reply)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("temperature", ["nan", "inf", "-inf", "1e999", "hot", "", "0,5", " 1 ", "1_0"]),
        ("seed", ["-1", "1.5", "9" * 50, "9" * 5000, "", "0x10", "\u0661"]),
        ("max_tokens", ["0", "-3", "none", str(2**63)]),
        ("stream", ["maybe", "", "2", "TRUE"]),
        ("response_format", ["", "xml", "JSON", "diarized_json", "x" * 60_000]),
        ("timestamp_granularities[]", ["word", "", "segment"]),
        ("language", ["de", "xx", "", "English", "\u202e", "e" * 60_000]),
        ("model", ["", "whisper-1", "x" * 60_000, "\0"]),
        ("prompt", ["\0", "\u202e" * 1000, "x" * 70_000]),
        ("include[]", ["logprobs", ""]),
        ("chunking_strategy", ["auto", "{", '{"type": "server_vad"}', ""]),
        ("colour", ["red", ""]),
        ("x" * 3000, ["a"]),
    ],
)
def test_odd_values_of_a_form_are_taken_or_refused(field: str, values: list[str], door: Door) -> None:
    for value in values:
        for path in ("transcriptions", "translations"):
            data, headers = form({"model": "audio_flamingo", field: value}, b"RIFF")
            reply = request(door, "POST", f"/v1/audio/{path}", data, headers)
            if reply.status != 200:
                assert refusal(reply)["param"] is not None
            data, headers = form({"model": "audio_flamingo", field: [value, value]}, b"RIFF")
            reply = request(door, "POST", f"/v1/audio/{path}", data, headers)
            if reply.status != 200:
                refusal(reply)


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/", "/v1/models/", "/v1/models/../x", "/v1/chat", "/v1/chat/completions/x", "/v1/responses",
     "/v1/embeddings", "/v1/models/" + "x" * 3000, "/v1/models/%00", "/v1/models/%ff", "/v1/chat/completions%2f"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_odd_paths_and_methods_are_refused(path: str, method: str, door: Door) -> None:
    reply = request(door, method, path, b"{}" if method in ("POST", "PUT", "PATCH") else None)
    assert refusal(reply)["code"]


def test_more_tokens_than_allowed_are_refused_under_the_name_they_came_with(door: Door) -> None:
    """The server's sentence is about max_tokens."""
    fault = "say=a|error=INVALID_ARGUMENT: parameter 'max_tokens': 0; must be from 1 to 1024"
    for field in ("max_tokens", "max_completion_tokens"):
        error = refusal(post(door, CHAT, body(fault, **{field: 0})))
        assert error["param"] == field
