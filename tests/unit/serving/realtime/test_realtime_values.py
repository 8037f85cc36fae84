"""Values of a session and of items that would only be noticed in a later answer are refused when they come."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.support.realtime_client import Talker


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"max_output_tokens": True}, "session.max_output_tokens"),
        ({"max_output_tokens": "5"}, "session.max_output_tokens"),
        ({"max_output_tokens": 0}, "session.max_output_tokens"),
        ({"max_output_tokens": -1}, "session.max_output_tokens"),
        ({"temperature": True}, "session.temperature"),
        ({"audio": {"output": {"voice": 5}}}, "session.audio.output.voice"),
        ({"temperature": "0.5"}, "session.temperature"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": "8000"}}}}, "session.audio.input.format.rate"),
        ({"audio": {"output": {"speed": True}}}, "session.audio.output.speed"),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "create_response": "yes"}}}},
            "session.audio.input.turn_detection.create_response",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "prefix_padding_ms": True}}}},
            "session.audio.input.turn_detection.prefix_padding_ms",
        ),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(session: dict[str, Any], param: str, talker: Talker) -> None:
    talker.send("session.update", session={"type": "realtime", **session})
    found = talker.until("error")["error"]
    assert found["param"] == param
    assert "session.updated" not in talker.kinds()


@pytest.mark.parametrize(
    "audio",
    [
        {"output": {"speed": None, "format": None, "voice": None}},
        {"input": {"format": None, "transcription": None, "noise_reduction": None}},
        {"input": {"turn_detection": {"type": "server_vad", "threshold": None, "silence_duration_ms": None}}},
        {"input": None, "output": None},
    ],
)
def test_null_in_a_session_means_the_default(audio: dict[str, Any], talker: Talker) -> None:
    talker.send("session.update", session={"type": "realtime", "temperature": None, "audio": audio})
    shown = talker.until("session.updated")["session"]
    assert "error" not in talker.kinds()
    if (audio.get("input") or {}).get("turn_detection"):
        assert shown["audio"]["input"]["turn_detection"]["threshold"] == 0.5


def test_null_turns_the_detection_of_turns_off(talker: Talker) -> None:
    assert (
        talker.update(audio={"input": {"turn_detection": None}})["audio"]["input"]["turn_detection"] is None
    )


@pytest.mark.parametrize("size", [0, 2, 960])
def test_sound_too_short_to_be_heard_is_no_item(size: int, talker: Talker) -> None:
    """It would fail every answer from then on."""
    sound = base64.b64encode(bytes(size)).decode()
    content = [{"type": "input_audio", "audio": sound}]
    talker.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    found = talker.until("error")["error"]
    assert found["param"] == "item.content[0].audio"
    assert "more than 20 ms can be heard" in found["message"]
    talker.update(output_modalities=["text"])
    talker.say("say=fine")
    assert talker.until("response.done")["response"]["status"] == "completed"


@pytest.mark.parametrize("part", [{"type": "input_text"}, {"type": "input_text", "text": None}])
def test_a_text_part_without_its_text_is_refused(part: dict[str, Any], talker: Talker) -> None:
    talker.send("conversation.item.create", item={"type": "message", "role": "user", "content": [part]})
    found = talker.until("error")["error"]
    assert (found["param"], found["code"]) == ("item.content[0].text", "missing_required_parameter")


@pytest.mark.parametrize("value", ["other", 5, {}, True])
def test_a_response_of_another_conversation_is_refused(value: object, talker: Talker) -> None:
    talker.send("response.create", response={"conversation": value})
    assert talker.until("error")["error"]["param"] == "response.conversation"
