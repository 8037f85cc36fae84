"""A question over every protocol but gRPC, and its whole text: for those who compare answers."""

from __future__ import annotations

import base64
import http.client
import io
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import soundfile
import soxr

from clients import AudioFlamingoError
from tests.support.realtime_client import Talker, spoken

REALTIME_HZ = 24_000
Ask = Callable[[str, bytes, str, int], str]


def kserve(url: str, audio: bytes, prompt: str, tokens: int) -> str:
    """HTTP as KServe has it, streamed. `url`: http://host:port. Raises AudioFlamingoError."""
    body = {"prompt": prompt, "max_tokens": tokens, "audio": [base64.b64encode(audio).decode()]}
    text = ""
    for event in _events(url, "/v2/models/audio_flamingo/generate_stream", body):
        text += event["text"]
    return text


def openai(url: str, audio: bytes, prompt: str, tokens: int) -> str:
    """A chat completion, streamed. Raises AudioFlamingoError."""
    clip = {"type": "input_audio", "input_audio": {"data": base64.b64encode(audio).decode(), "format": "wav"}}
    content = [clip, {"type": "text", "text": prompt}]
    body = {
        "model": "audio_flamingo",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
    }
    text = ""
    for event in _events(url, "/v1/chat/completions", body):
        for choice in event["choices"]:
            text += choice["delta"].get("content") or ""
    return text


def realtime(url: str, audio: bytes, prompt: str, tokens: int) -> str:
    """A turn over a WebSocket: the prompt, then the sound, committed. Raises AudioFlamingoError."""
    samples, hz = soundfile.read(io.BytesIO(audio), always_2d=True)
    sound = soxr.resample(samples.mean(axis=1), hz, REALTIME_HZ)
    with Talker(url.replace("http", "ws", 1)) as talker:
        detection = {"input": {"turn_detection": None}}
        talker.update(
            output_modalities=["text"], instructions=prompt, max_output_tokens=tokens, audio=detection
        )
        talker.append((32767 * np.clip(sound, -1, 1)).astype("<i2"))
        talker.send("input_audio_buffer.commit")
        talker.send("response.create")
        done = talker.until("response.done", 120)["response"]
        if done["status"] == "failed":
            error = done["status_details"]["error"]
            raise AudioFlamingoError("UNAVAILABLE", error["message"])
        return spoken(talker.events)


PROTOCOLS: Mapping[str, Ask] = {"kserve": kserve, "openai": openai, "realtime": realtime}


def _events(url: str, path: str, body: Mapping[str, Any]) -> Any:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    try:
        connection.request("POST", path, json.dumps(body))
        reply = connection.getresponse()
        if reply.status != 200:
            raise _failure(json.loads(reply.read()))
        for line in reply:
            if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise _failure(event)
            yield event
    finally:
        connection.close()


def _failure(body: Mapping[str, Any]) -> AudioFlamingoError:
    error = body["error"]
    if isinstance(error, str):
        status, _, message = error.partition(": ")
        return AudioFlamingoError(status, message)
    return AudioFlamingoError("UNAVAILABLE", str(error["message"]))  # OpenAI's bodies have no status of gRPC
