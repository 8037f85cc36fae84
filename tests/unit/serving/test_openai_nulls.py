"""An explicit null is the same as nothing, and the rest of what clients of the API send without meaning to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.openai_api import CHAT, asked, body, parameters, post, request

PATH = "/v1/audio/transcriptions"
EVERY_FIELD = dict.fromkeys(
    ("name", "tool_calls", "function_call", "tool_call_id", "refusal", "audio", "annotations")
)
PART = {"type": "text", "text": "say=hi", "input_audio": None, "audio_url": None, "image_url": None}


def part(name: str, value: bytes, *lines: str) -> bytes:
    head = "\r\n".join([f'Content-Disposition: form-data; name="{name}"', *lines, "", ""])
    return b"--x\r\n" + head.encode() + value + b"\r\n"


def transcription(door: Door, *fields: bytes) -> Any:
    data = part("model", b"audio_flamingo") + part("file", b"RIFF") + b"".join(fields) + b"--x--\r\n"
    return request(door, "POST", PATH, data, {"content-type": "multipart/form-data; boundary=x"})


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_message_may_have_every_field_as_null(role: str, door: Door) -> None:
    message = {"role": role, "content": "x", **EVERY_FIELD}
    messages = [message, {"role": "user", "content": "say=hi"}]
    assert post(door, CHAT, body(messages=messages)).status == 200


def test_a_part_may_have_the_fields_of_others_as_null(door: Door) -> None:
    assert post(door, CHAT, body(messages=[{"role": "user", "content": [PART]}])).status == 200


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": None, "content": "x"}, "messages[0].role"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "user", "content": [{"type": None}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, "messages[0].content[0].text"),
    ],
)
def test_a_null_where_something_is_needed_is_missing(message: Any, param: str, door: Door) -> None:
    error = post(door, CHAT, body(messages=[message])).error
    assert (error["param"], error["code"]) == (param, "missing_required_parameter")


@pytest.mark.parametrize("said", [{"content": "before"}, {"audio": {"id": "gone", "transcript": "before"}}])
def test_a_spoken_answer_that_is_no_longer_kept_is_what_stands_beside_its_id(
    said: dict[str, Any], triton: FakeTriton, door: Door
) -> None:
    """As its error advises."""
    answer = {"role": "assistant", "audio": {"id": "gone"}, **said}
    turns = [{"role": "user", "content": "x"}, answer, {"role": "user", "content": "say=hi"}]
    assert post(door, CHAT, body(messages=turns)).status == 200
    assert '"before"' in asked(triton).raw_input_contents[-1].decode()


def test_a_spoken_answer_without_words_is_one(door: Door) -> None:
    answer = {"role": "assistant", "audio": {"id": "gone", "transcript": ""}}
    turns = [{"role": "user", "content": "x"}, answer, {"role": "user", "content": "say=hi"}]
    assert post(door, CHAT, body(messages=turns)).status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_tokens", "\u0664"), ("max_tokens", "4_0"), ("seed", " 5"), ("temperature", "\u0660"),
     ("temperature", "nan"), ("temperature", "1e400"), ("top_p", "1_0.0"), ("timeout", "9" * 40)],
)  # fmt: skip
def test_a_number_of_a_form_is_written_as_json_writes_numbers(name: str, value: str, door: Door) -> None:
    error = transcription(door, part(name, value.encode())).error
    assert error["param"] == name
    assert error["message"].endswith(("is not a number", "is not a whole number"))


@pytest.mark.parametrize(
    ("value", "expected"), [("0.5", 0.5), (".5", 0.5), ("1", 1.0), ("1e-1", 0.1), ("+0.25", 0.25)]
)
def test_numbers_of_a_form_are_read(value: str, expected: float, triton: FakeTriton, door: Door) -> None:
    assert transcription(door, part("temperature", value.encode())).status == 200
    assert parameters(asked(triton))["temperature"] == expected


def test_a_field_is_read_in_the_charset_that_it_names(triton: FakeTriton, door: Door) -> None:
    reply = transcription(
        door, part("prompt", "é".encode("latin-1"), "Content-Type: text/plain; charset=ISO-8859-1")
    )
    assert reply.status == 200
    assert "é".encode() in asked(triton).raw_input_contents[-1]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("Content-Type: text/plain; charset=utf-16", "charset 'utf-16'"),
        ("Content-Type: text/plain; charset=rot13", "charset 'rot13'"),
        ("Content-Transfer-Encoding: quoted-printable", "Content-Transfer-Encoding 'quoted-printable'"),
        ("Content-Transfer-Encoding: base64", "Content-Transfer-Encoding 'base64'"),
    ],
)
def test_a_field_that_is_encoded_otherwise_is_refused(line: str, named: str, door: Door) -> None:
    error = transcription(door, part("prompt", b"aGk=", line)).error
    assert error["param"] == "prompt"
    assert named in error["message"]


def test_a_form_without_a_boundary_and_a_part_without_a_name_are_told_so(door: Door) -> None:
    bare = request(door, "POST", PATH, b"--x--\r\n", {"content-type": "multipart/form-data"})
    assert "names no boundary" in bare.error["message"]
    nameless = transcription(door, b"--x\r\nX: y\r\n\r\nz\r\n")
    assert "part 3 of the form has no name" in nameless.error["message"]


def test_a_long_key_is_not_shown_as_something_else(door: Door) -> None:
    error = post(door, CHAT, json.dumps({**body(), "k" * 70_000: 1}).encode()).error
    assert error["message"] == "a key of the JSON has more than 16384 bytes; shorten it"


def test_half_a_character_in_the_name_of_a_field_is_named(door: Door) -> None:
    error = post(door, CHAT, body(**{"\ud800": 1})).error
    assert error["param"] == "\ud800"
    assert "half of a surrogate pair in the name of a field" in error["message"]
