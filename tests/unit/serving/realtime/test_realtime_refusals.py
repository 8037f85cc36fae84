"""What a client must not do in a session, and what that costs it: an error, seldom the session, never another's."""

import base64
import json

import pytest

from serving.door.door import Door
from tests.support.realtime_client import Talker
from tests.support.scrape import wait_until

PUSH_TO_TALK = {"input": {"turn_detection": None}}
MALFORMED = {
    "no JSON": "{",
    "no object": "[1]",
    "no type": '{"a": 1}',
    "a type that is no string": '{"type": 7}',
    "an unknown event": '{"type": "session.destroy", "event_id": "e"}',
    "deep nesting": '{"type": ' + "[" * 90_000,
    "half a character": '{"type": "conversation.item.create", "item": {"type": "message", "role": "user",'
    ' "content": [{"type": "input_text", "text": "\\ud800"}]}}',
    "no base64": '{"type": "input_audio_buffer.append", "audio": "ä!"}',
    "half a sample": '{"type": "input_audio_buffer.append", "audio": "AAAA"}',
    "sound that is a number": '{"type": "input_audio_buffer.append", "audio": 3}',
    "a commit of nothing": '{"type": "input_audio_buffer.commit"}',
    "a session that is a list": '{"type": "session.update", "session": []}',
    "a threshold that is none": '{"type": "session.update", "session":'
    ' {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": "high"}}}}}',
    "an item of another role": '{"type": "conversation.item.create", "item": {"type": "message", "role": "tool",'
    ' "content": []}}',
    "an item that calls": '{"type": "conversation.item.create", "item": {"type": "function_call_output"}}',
    "a time that is no number": '{"type": "conversation.item.truncate", "item_id": "x", "audio_end_ms": "1"}',
    "a number of 400 digits": '{"type": "response.create", "response": {"max_output_tokens": '
    + "9" * 400
    + "}}",
    "a conversation with itself": '{"type": "response.create", "response": {"input": [{"type": "item_reference"}]}}',
    "a transcription session": '{"type": "session.update", "session": {"type": "transcription"}}',
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_event_is_an_error_and_no_end(name: str, talker: Talker) -> None:
    talker.socket.send(MALFORMED[name])
    error = talker.until("error")["error"]
    assert error["message"] and error["type"] == "invalid_request_error"
    assert error["event_id"] == ("e" if '"e"' in MALFORMED[name] else None)
    talker.socket.send(b"\0\1binary")
    assert talker.until("error")["error"]["code"] == "invalid_frame"
    talker.update(output_modalities=["text"])
    talker.say("say=fine")
    assert talker.until("response.done")["response"]["status"] == "completed"


def test_what_is_not_served_is_refused_by_name_and_the_rest_of_the_update_holds(talker: Talker) -> None:
    tools = [{"type": "function", "name": "f"}]
    session = talker.update(
        tools=tools, instructions="Be brief.", tracing="auto", audio={"output": {"voice": "marin"}}
    )
    error = talker.seen("error")["error"]
    assert (error["param"], error["code"]) == ("session.tools", "unsupported")
    assert (session["tools"], session["instructions"], session["tracing"]) == ([], "Be brief.", "auto")
    assert session["audio"]["output"] == {
        "format": {"type": "audio/pcm", "rate": 24000},
        "voice": "marin",
        "speed": 1.0,
    }


def test_a_large_event_is_read_and_one_too_large_ends_the_session(talker: Talker, door: Door) -> None:
    talker.update(audio=PUSH_TO_TALK)
    sound = base64.b64encode(bytes(9 << 20)).decode()
    talker.send("input_audio_buffer.append", audio=sound)
    talker.send("input_audio_buffer.commit")
    talker.until("input_audio_buffer.committed")
    assert door.realtime.audio_bytes >= 9 << 20
    talker.socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": "A" * (17 << 20)}))
    assert talker.closed()[0] == 1009
    wait_until(lambda: door.realtime.audio_bytes == 0)
