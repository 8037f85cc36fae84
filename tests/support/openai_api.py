"""OpenAI's own client, and its types as the judge of what the server sends."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from serving.door.door import Door
from tests.support.fake_triton import FakeTriton

MODEL = "audio_flamingo"
CHAT = "/v1/chat/completions"
SPOKEN = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}


def client(door: Door, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url(door), api_key="none", max_retries=0, timeout=120, **options)


def async_client(door: Door) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=base_url(door), api_key="none", max_retries=0, timeout=120)


def base_url(door: Door) -> str:
    return f"http://{door.host}:{door.ports.http}/v1"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The object under `error`, which has exactly the four keys."""
        assert set(self.json) == {"error"}
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    def events(self) -> Iterator[Any]:
        """The data of the events, without the final `[DONE]`."""
        *events, nothing = self.body.decode().split("\n\n")
        assert nothing == ""
        for one in events:
            assert one.startswith("data: ")
            if one != "data: [DONE]":
                yield json.loads(one[6:])


def post(door: Door, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request(door, "POST", path, data, {"content-type": "application/json", **(headers or {})})


def request(
    door: Door, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Reply:
    connection = http.client.HTTPConnection(door.host, door.ports.http, timeout=120)
    connection.request(method, path, body, headers or {})
    reply = connection.getresponse()
    found = Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    connection.close()
    return found


def form(fields: dict[str, Any], file: bytes | None) -> tuple[bytes, dict[str, str]]:
    """A multipart body, as curl writes it, and its header."""
    boundary = "----form-7d8c9"
    parts = []
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{one}'.encode())
    if file is not None:
        head = (
            'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        )
        parts.append(head.encode() + file)
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return body + f"--{boundary}--\r\n".encode(), {
        "content-type": f"multipart/form-data; boundary={boundary}"
    }


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def user(text: str, *clips: bytes) -> dict[str, Any]:
    """A user message with its clips first."""
    parts: list[Any] = [
        {"type": "input_audio", "input_audio": {"data": base64_of(one), "format": "wav"}} for one in clips
    ]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def valid_completion(found: Any) -> ChatCompletion:
    """Checked by OpenAI's type, where nothing is converted and nothing unknown is let through."""
    return _strict(ChatCompletion, found)


def valid_chunk(found: Any) -> ChatCompletionChunk:
    return _strict(ChatCompletionChunk, found)


def valid(kind: Any, found: Any, allowed: Collection[str] = ()) -> Any:
    """`allowed`: places of fields that OpenAI's type does not have, and its server sends."""
    return _strict(kind, found, allowed)


def _strict(kind: Any, found: Any, allowed: Collection[str] = ()) -> Any:
    checked = kind.model_validate(found, strict=True)
    unknown = [name for name in _unknown(checked, "") if name not in allowed]
    assert not unknown, f"OpenAI's {kind.__name__} has no {unknown}"
    return checked


def _unknown(value: Any, place: str) -> list[str]:
    """Fields that OpenAI's types do not have: they keep them as extras."""
    if isinstance(value, list):
        return [name for item in value for name in _unknown(item, place + "[]")]
    if not hasattr(value, "model_extra"):
        return []
    found = [f"{place}.{name}" for name in value.model_extra or {}]
    for name in type(value).model_fields:
        found += _unknown(getattr(value, name), f"{place}.{name}")
    return found


def asked(triton: FakeTriton) -> Any:
    """The newest request that Triton saw."""
    return list(triton.seen.values())[-1]


def inputs(request: Any) -> dict[str, list[bytes]]:
    found = {}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        elements, start = [], 0
        while start < len(raw):
            end = start + 4 + int.from_bytes(raw[start : start + 4], "little")
            elements.append(raw[start + 4 : end])
            start = end
        found[tensor.name] = elements
    return found


def parameters(request: Any) -> dict[str, Any]:
    return {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in request.parameters.items()
    }


def body(text: str = "say=hi|many=3", **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}
