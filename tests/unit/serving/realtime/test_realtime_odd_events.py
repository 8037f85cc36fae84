"""Events that no honest client sends: each is taken or costs an `error`; the session goes on, within its memory."""

import json
from typing import Any

import pytest

from serving.door.door import Door
from serving.door.json_body import LONG_STRING
from serving.door.realtime.realtime_limits import RealtimeLimits
from tests.support.fake_triton import FakeTriton
from tests.support.realtime_client import Talker
from tests.support.realtime_door import address, door_before
from tests.support.scrape import wait_until

LONG = "x" * (LONG_STRING + 10)
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "wrong",
    "\u202e\U0001f600\0é",
    "\ud800",
    LONG,
    [],
    [None, 1, "a"],
    [LONG],
    {},
    {"type": "wrong", "id": 1, "\ud800": LONG},
    json.loads("[" * 400 + "]" * 400),
]
MESSAGE = {"type": "message", "role": "user"}
PLACES = {
    "event_id": lambda odd: {"type": "session.update", "event_id": odd, "session": {}},
    "type": lambda odd: {"type": odd},
    "session": lambda odd: {"type": "session.update", "session": odd},
    **{
        f"session.{name}": lambda odd, name=name: {"type": "session.update", "session": {name: odd}}
        for name in (
            *("type", "id", "model", "output_modalities", "instructions", "max_output_tokens", "temperature"),
            *(
                "audio",
                "tools",
                "tool_choice",
                "prompt",
                "tracing",
                "truncation",
                "include",
                "turn_detection",
            ),
            *("modalities", "expires_at", "object", "unknown", "\ud800"),
        )
    },
    **{
        f"session.audio.{side}.{name}": lambda odd, side=side, name=name: {
            "type": "session.update",
            "session": {"audio": {side: {name: odd}}},
        }
        for side in ("input", "output")
        for name in (
            "format",
            "turn_detection",
            "transcription",
            "noise_reduction",
            "voice",
            "speed",
            "unknown",
        )
    },
    **{
        f"turn_detection.{name}": lambda odd, name=name: {
            "type": "session.update",
            "session": {"audio": {"input": {"turn_detection": {"type": "server_vad", name: odd}}}},
        }
        for name in (
            "type",
            "threshold",
            "prefix_padding_ms",
            "silence_duration_ms",
            "eagerness",
            "create_response",
        )
    },
    "format.rate": lambda odd: {
        "type": "session.update",
        "session": {"audio": {"input": {"format": {"type": "audio/pcm", "rate": odd}}}},
    },
    "append": lambda odd: {"type": "input_audio_buffer.append", "audio": odd},
    "item": lambda odd: {"type": "conversation.item.create", "item": odd},
    "item.id": lambda odd: {
        "type": "conversation.item.create",
        "item": {**MESSAGE, "id": odd, "content": []},
    },
    "item.content": lambda odd: {"type": "conversation.item.create", "item": {**MESSAGE, "content": odd}},
    "part": lambda odd: {"type": "conversation.item.create", "item": {**MESSAGE, "content": [odd]}},
    "part.type": lambda odd: {
        "type": "conversation.item.create",
        "item": {**MESSAGE, "content": [{"type": odd}]},
    },
    "part.text": lambda odd: {
        "type": "conversation.item.create",
        "item": {**MESSAGE, "content": [{"type": "input_text", "text": odd}]},
    },
    "part.audio": lambda odd: {
        "type": "conversation.item.create",
        "item": {**MESSAGE, "content": [{"type": "input_audio", "audio": odd}]},
    },
    "role": lambda odd: {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": odd, "content": [{"type": "input_text", "text": "a"}]},
    },
    "previous_item_id": lambda odd: {
        "type": "conversation.item.create",
        "previous_item_id": odd,
        "item": {**MESSAGE, "content": [{"type": "input_text", "text": "a"}]},
    },
    **{
        f"{name}.item_id": lambda odd, name=name: {"type": f"conversation.item.{name}", "item_id": odd}
        for name in ("retrieve", "delete", "truncate")
    },
    "audio_end_ms": lambda odd: {
        "type": "conversation.item.truncate",
        "item_id": "kept",
        "audio_end_ms": odd,
    },
    "response": lambda odd: {"type": "response.create", "response": odd},
    **{
        f"response.{name}": lambda odd, name=name: {
            "type": "response.create",
            "response": {"conversation": "none", "instructions": "say=a", name: odd},
        }
        for name in (
            *(
                "instructions",
                "output_modalities",
                "max_output_tokens",
                "audio",
                "metadata",
                "conversation",
                "input",
            ),
            *("temperature", "tools", "prompt", "unknown"),
        )
    },
    "response_id": lambda odd: {"type": "response.cancel", "response_id": odd},
}


@pytest.mark.parametrize("place", PLACES)
def test_an_odd_value_is_taken_or_refused_and_the_session_goes_on(place: str, door: Door) -> None:
    for odd in ODD:
        with Talker(address(door)) as talker:
            talker.send(
                "conversation.item.create",
                item={
                    "id": "kept",
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "a"}],
                },
            )
            talker.socket.send(json.dumps(PLACES[place](odd)))
            talker.send("conversation.item.retrieve", item_id="kept", event_id="last")
            talker.until("conversation.item.retrieved")
            for error in talker.of("error"):
                assert set(error["error"]) == {"type", "code", "message", "param", "event_id"}
                assert error["error"]["type"] == "invalid_request_error", (place, odd, error)
                assert error["error"]["event_id"] != "last"
                assert len(error["error"]["message"]) < 2000
                assert "object at 0x" not in error["error"]["message"]


def test_texts_are_counted_in_the_memory_of_a_session(triton: FakeTriton) -> None:
    """A thousand items of four megabytes would be four gigabytes."""
    with door_before(triton, RealtimeLimits(session_bytes=1 << 20)) as door, Talker(address(door)) as talker:
        first = talker.add("a" * 300_000)
        assert door.realtime.audio_bytes >= 300_000
        for _ in range(2):
            talker.add("é" * 150_000)
        talker.send(
            "conversation.item.create",
            event_id="fourth",
            item={**MESSAGE, "content": [{"type": "input_text", "text": "a" * 300_000}]},
        )
        assert talker.until("error")["error"]["event_id"] == "fourth"
        talker.send("conversation.item.delete", item_id=first)
        talker.until("conversation.item.deleted")
        talker.add("a" * 300_000)
        talker.socket.close()
        wait_until(lambda: door.realtime.audio_bytes == 0)
