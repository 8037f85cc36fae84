"""One question over every protocol, written and spoken, and in a sentence what its client saw."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any

from websockets.exceptions import InvalidStatus

from clients import AudioFlamingo, AudioFlamingoError
from tests.attack.scene import Scene
from tests.support import other_protocols
from tests.support.clips import file_bytes, sound
from tests.support.realtime_client import Talker

# Of 24 bits: it is read in a process of its own. Different from one protocol to the next, so that each is encoded.
CLIPS = [file_bytes(sound(0.5, seed=seed), subtype="PCM_24") for seed in range(3)]
PROMPT = "What is it?"
TOKENS = 60
SPOKEN_TOKENS = 12


def ask(scene: Scene, name: str) -> str:
    """`answered`, or the sentence of the error up to its advice."""
    try:
        ASKERS[name](scene)
    except AudioFlamingoError as error:
        return error.message.split(";")[0]
    except InvalidStatus as error:
        return str(json.loads(error.response.body)["error"]["message"]).split(";")[0]
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:120]
    return "answered"


def _grpc(scene: Scene) -> None:
    with AudioFlamingo(scene.server.url) as flamingo:
        flamingo.ask(CLIPS[0], PROMPT, max_tokens=TOKENS, timeout_s=90).text()


def _grpc_spoken(scene: Scene) -> None:
    with AudioFlamingo(scene.server.url, "audio_flamingo_speech") as flamingo:
        for delta in flamingo.ask(CLIPS[0], PROMPT, max_tokens=SPOKEN_TOKENS, timeout_s=90):
            if delta.speech_error:
                raise AudioFlamingoError("INTERNAL", delta.speech_error)


def _kserve(scene: Scene) -> None:
    other_protocols.kserve(scene.server.http, CLIPS[1], PROMPT, TOKENS)


def _openai(scene: Scene) -> None:
    other_protocols.openai(scene.server.http, CLIPS[1], PROMPT, TOKENS)


def _openai_spoken(scene: Scene) -> None:
    clip = {"data": base64.b64encode(CLIPS[1]).decode(), "format": "wav"}
    content = [{"type": "input_audio", "input_audio": clip}, {"type": "text", "text": PROMPT}]
    body: dict[str, Any] = {"model": "audio_flamingo", "messages": [{"role": "user", "content": content}]}
    body |= {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    connection = http.client.HTTPConnection(scene.host, scene.port, timeout=90)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps({**body, "max_tokens": SPOKEN_TOKENS}))
        reply = connection.getresponse()
        found = json.loads(reply.read())
        if reply.status != 200:
            raise AudioFlamingoError("UNAVAILABLE", found["error"]["message"])
        assert found["choices"][0]["message"]["audio"]["data"]
    finally:
        connection.close()


def _realtime(scene: Scene) -> None:
    other_protocols.realtime(scene.server.http, CLIPS[2], PROMPT, TOKENS)


def _realtime_spoken(scene: Scene) -> None:
    with Talker(f"ws://{scene.host}:{scene.port}") as talker:
        talker.update(output_modalities=["audio"], max_output_tokens=SPOKEN_TOKENS)
        talker.say(PROMPT)
        done = talker.until("response.done", 90)["response"]
        if done["status"] == "failed":
            raise AudioFlamingoError("UNAVAILABLE", done["status_details"]["error"]["message"])
        assert talker.speech()


ASKERS: Mapping[str, Callable[[Scene], None]] = {
    "gRPC": _grpc,
    "gRPC, spoken": _grpc_spoken,
    "KServe": _kserve,
    "OpenAI": _openai,
    "OpenAI, spoken": _openai_spoken,
    "WebSocket": _realtime,
    "WebSocket, spoken": _realtime_spoken,
}
