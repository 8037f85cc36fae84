"""One question over gRPC and over HTTP, and what came back, in the same words."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.address import Ports
from serving.door.door import Door
from tests.support.wire import Refused, Stream

PROTOCOLS = ("grpc", "http")


@dataclass(frozen=True)
class Address:
    """A server that was launched as a process of its own."""

    url: str
    host: str
    ports: Ports


Served = Door | Address


@dataclass(frozen=True)
class Outcome:
    """`status` "OK", or that of the error with its sentence; `text` what came before it."""

    status: str
    sentence: str
    text: str
    client_id: str


def ask(protocol: str, door: Served, prompt: str | None, client_id: str = "", **options: Any) -> Outcome:
    """options: `model`, `messages`, `audio` (data URIs or files), and request parameters."""
    model = options.pop("model", "audio_flamingo")
    found = _grpc if protocol == "grpc" else _http
    return found(door, model, prompt, client_id, options)


def leave(protocol: str, door: Door, prompt: str, after_first: bool = True, **parameters: Any) -> None:
    """Ask, read the first response (or none), and go."""
    if protocol == "grpc":
        stream = Stream(door.url, prompt=prompt, parameters=parameters)
        if after_first:
            next(iter(stream))
        stream.cancel()
        return
    connection = raw_request(door, {"prompt": prompt, **parameters})
    if after_first:
        assert connection.recv(64)
    connection.close()


def raw_request(door: Door, body: Mapping[str, Any], head: Sequence[str] = ()) -> socket.socket:
    """A socket on which a generate_stream request has been sent."""
    data = json.dumps(body).encode()
    connection = socket.create_connection((door.host, door.ports.http), timeout=30)
    lines = [
        "POST /v2/models/audio_flamingo/generate_stream HTTP/1.1",
        "Host: x",
        f"Content-Length: {len(data)}",
    ]
    connection.sendall("\r\n".join([*lines, *head]).encode() + b"\r\n\r\n" + data)
    return connection


def _grpc(
    door: Served, model: str, prompt: str | None, client_id: str, options: Mapping[str, Any]
) -> Outcome:
    text = ""
    seen_id = ""
    audio = [clip if isinstance(clip, bytes) else clip.encode() for clip in options.get("audio", ())]
    parameters = {name: value for name, value in options.items() if name not in ("audio", "messages")}
    try:
        stream = Stream(
            door.url, audio, prompt, options.get("messages"), parameters, request_id=client_id, model=model
        )
        for result in stream.results():
            seen_id = result.get_response().id
            text += result.as_numpy("text")[0].decode()
    except Refused as error:
        return Outcome(error.status, error.message, text, client_id)
    return Outcome("OK", "", text, seen_id)


def _http(
    door: Served, model: str, prompt: str | None, client_id: str, options: Mapping[str, Any]
) -> Outcome:
    body = {"prompt": prompt, "id": client_id, **options}  # null: no prompt
    connection = http.client.HTTPConnection(door.host, door.ports.http, timeout=120)
    connection.request("POST", f"/v2/models/{model}/generate_stream", json.dumps(body))
    reply = connection.getresponse()
    if reply.status != 200:
        return _error(json.loads(reply.read())["error"], "", client_id)
    text, seen_id = "", ""
    for line in reply:
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            return _error(event["error"], text, client_id)
        text += event["text"]
        seen_id = event.get("id", "")
    return Outcome("OK", "", text, seen_id)


def _error(sentence: str, text: str, client_id: str) -> Outcome:
    status, _, message = sentence.partition(": ")
    return Outcome(status, message, text, client_id)
