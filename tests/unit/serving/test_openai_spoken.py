"""Spoken answers of /v1/chat/completions, whole and streamed; Triton is a stand-in."""

import base64
import io
import json
import time
import wave

import pytest

from af3 import contract
from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.openai_api import (
    CHAT,
    MODEL,
    SPOKEN,
    asked,
    body,
    client,
    inputs,
    parameters,
    post,
    valid_chunk,
    valid_completion,
)

HOST = "127.0.0.1"


def pcm_of(data: bytes) -> tuple[int, bytes]:
    with wave.open(io.BytesIO(data)) as file:
        return file.getframerate(), file.readframes(1 << 24)


def test_a_spoken_answer_and_the_turn_after_it(triton: FakeTriton, door: Door) -> None:
    asking = client(door)
    found = asking.chat.completions.create(**body("say=hi|many=2|big=3200"), **SPOKEN)
    message = found.choices[0].message
    assert message.content is None
    assert message.audio.transcript == "hihi"
    assert pcm_of(base64.b64decode(message.audio.data)) == (16_000, bytes(6400))
    assert time.time() < message.audio.expires_at <= time.time() + 3600
    assert asked(triton).model_name == contract.AUDIO_FLAMINGO_SPEECH.name
    assert parameters(asked(triton)) == {"voice": "alloy"}  # the server knows OpenAI's names
    valid_completion(post(door, CHAT, body("say=hi|big=3200", **SPOKEN)).json)

    question = {"role": "user", "content": "say=ok"}
    for before in (
        {"role": "assistant", "audio": {"id": message.audio.id}},
        message.model_dump(),
        message.model_dump(exclude_none=True),
    ):
        history = [{"role": "user", "content": "a"}, before, question]
        asking.chat.completions.create(model=MODEL, messages=history)
        assert json.loads(inputs(asked(triton))["messages"][0])[1] == {"role": "assistant", "content": "hihi"}


def test_a_streamed_spoken_answer(triton: FakeTriton, door: Door) -> None:
    audio = {"voice": {"id": "en-gb"}, "format": "wav"}
    reply = post(
        door, CHAT, body("say=hi|many=3|big=3200", stream=True, modalities=["text", "audio"], audio=audio)
    )
    assert parameters(asked(triton)) == {"voice": "en-gb"}
    chunks = list(reply.events())
    for chunk in chunks:
        valid_chunk(chunk)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["content"] is None and deltas[0]["audio"]["transcript"] == ""
    audios = [delta["audio"] for delta in deltas if "audio" in delta]
    assert len({one["id"] for one in audios}) == 1
    assert "".join(one.get("transcript", "") for one in audios) == "hihihi"
    data = b"".join(base64.b64decode(one["data"]) for one in audios if "data" in one)
    assert data.count(b"RIFF") == 1
    assert pcm_of(data) == (16_000, bytes(9600))
    assert audios[-1]["expires_at"] > time.time()
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    history = [
        *body()["messages"],
        {"role": "assistant", "audio": {"id": audios[0]["id"]}},
        *body()["messages"],
    ]
    assert post(door, CHAT, {"model": MODEL, "messages": history}).status == 200
    assert json.loads(inputs(asked(triton))["messages"][0])[1]["content"] == "hihihi"


def test_pcm16_is_at_24_khz_streamed_and_whole(door: Door) -> None:
    spoken = {"modalities": ["text", "audio"], "audio": {"voice": "marin", "format": "pcm16"}}
    whole = post(door, CHAT, body("many=3|big=32000", **spoken)).json["choices"][0]["message"]["audio"][
        "data"
    ]
    events = post(door, CHAT, body("many=3|big=32000", stream=True, **spoken)).events()
    parts = [event["choices"][0]["delta"].get("audio", {}).get("data", "") for event in events]
    streamed = b"".join(base64.b64decode(part) for part in parts)
    assert len(base64.b64decode(whole)) == len(streamed) == 3 * 24_000 * 2


@pytest.mark.parametrize(
    ("sound", "start"),
    [("mp3", (b"ID3", b"\xff")), ("opus", (b"OggS",)), ("flac", (b"fLaC",)), ("aac", (b"\xff",))],
)
def test_coded_speech_is_a_file_of_its_kind(sound: str, start: tuple[bytes, ...], door: Door) -> None:
    spoken = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": sound}}
    found = post(door, CHAT, body("many=2|big=32000", **spoken))
    data = base64.b64decode(found.json["choices"][0]["message"]["audio"]["data"])
    assert data.startswith(start)


def test_a_voice_that_fails_is_an_error(triton: FakeTriton, door: Door) -> None:
    reply = post(door, CHAT, body("say=hi|mute=the program ended", **SPOKEN))
    assert (reply.status, reply.error["message"]) == (500, "the voice failed: the program ended")
    events = list(
        post(
            door,
            CHAT,
            body("say=hi|mute=the program ended", stream=True, **{**SPOKEN, "audio": {"format": "wav"}}),
        ).events()
    )
    assert events[-1]["error"]["message"] == "the voice failed: the program ended"
