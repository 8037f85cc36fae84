"""Realtime against a stand-in of Triton: events, their order, what is heard, kept and refused."""

import time

import numpy as np
import pytest

from af3.contract import MAX_TEXT_BYTES
from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.realtime_client import Talker, spoken
from tests.support.realtime_door import messages, quiet, voice
from tests.support.scrape import wait_until

PUSH_TO_TALK = {"input": {"turn_detection": None}}
# A response every 2 ms, each with a fifth of a second of speech, until it is stopped.
ENDLESS = "say=word |forever|big=8820|hz=22050"


def last_request(triton: FakeTriton) -> list[dict]:
    return messages(list(triton.seen.values())[-1])


def test_a_text_is_answered_in_text_with_all_events_in_order(talker: Talker) -> None:
    talker.update(output_modalities=["text"])
    talker.say("say=la |many=3", metadata={"client_event_id": "mine"})
    start = len(talker.events)
    done = talker.until("response.done")["response"]
    assert [kind for kind in talker.kinds(start) if not kind.endswith(".delta")] == [
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    assert spoken(talker.events) == "la la la "
    assert (done["status"], done["metadata"]) == ("completed", {"client_event_id": "mine"})
    assert talker.of("response.created")[0]["response"]["metadata"] == {"client_event_id": "mine"}
    assert done["output"][0]["content"] == [{"type": "output_text", "text": "la la la "}]
    assert done["usage"]["output_tokens"] == 3
    assert len({event["event_id"] for event in talker.events}) == len(talker.events)


def test_an_answer_is_spoken_at_the_rate_of_the_session(talker: Talker, triton: FakeTriton) -> None:
    talker.say("say=la |many=4|big=8820|hz=22050")
    done = talker.until("response.done")["response"]
    assert done["status"] == "completed"
    assert len(talker.speech()) / 2 / 24_000 == pytest.approx(4 * 4410 / 22_050, abs=0.002)
    assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": "la la la la "}]
    assert set(list(triton.seen.values())[-1].parameters) == {
        "max_tokens",
        "triton_enable_empty_final_response",
    }


def test_push_to_talk_sends_what_was_said_and_earlier_turns_with_it(
    talker: Talker, triton: FakeTriton
) -> None:
    talker.update(output_modalities=["text"], audio=PUSH_TO_TALK)
    sounds = [bytes([turn]) * 9600 for turn in (1, 2)]
    for sound in sounds:
        talker.append(sound)
        talker.send("input_audio_buffer.commit")
        talker.until("input_audio_buffer.committed")
        talker.send("response.create")
        assert talker.until("response.done")["response"]["status"] == "completed"
    request = list(triton.seen.values())[-1]
    audio = request.raw_input_contents[0]
    assert [message["role"] for message in messages(request)] == ["user", "assistant", "user"]
    assert [sound in audio for sound in sounds] == [True, True]
    assert request.inputs[0].shape == [2]


def listen(talker: Talker, seconds: float) -> float:
    """Hear an answer without end for so long; how long it was."""
    talker.until("response.output_audio.delta")
    began_s = time.monotonic()
    while (played_s := time.monotonic() - began_s) < seconds:
        talker.next()
    return played_s


def test_speech_is_sent_at_most_two_seconds_ahead(talker: Talker) -> None:
    """At most: counted from the question, so that a slow machine cannot make it more. At least: from the speech."""
    asked_s = time.monotonic()
    talker.say(ENDLESS)
    talker.until("response.output_audio.delta")
    began_s = time.monotonic()
    while (spoken_s := len(talker.speech()) / 2 / 24_000) < 4:
        talker.next()
    now_s = time.monotonic()
    assert spoken_s - (now_s - asked_s) < 2.4
    assert spoken_s - (now_s - began_s) > 0
    talker.send("response.cancel")
    done = talker.until("response.done")["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "client_cancelled")


def test_speaking_up_stops_the_answer_and_the_next_knows_only_what_was_heard(
    talker: Talker, triton: FakeTriton
) -> None:
    talker.update(audio={"input": {"turn_detection": {"type": "server_vad", "create_response": False}}})
    talker.say(ENDLESS)
    listen(talker, 1.0)
    answer = talker.of("response.output_item.added")[0]["item"]["id"]
    talker.append(voice())
    talker.until("input_audio_buffer.speech_started")
    start = len(talker.events)
    done = talker.until("response.done")["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")
    assert "response.output_audio.delta" not in talker.kinds(start)
    assert done["usage"]["output_tokens"] > 0
    wait_until(lambda: triton.live == 0)
    talker.send("conversation.item.retrieve", item_id=answer)
    (part,) = talker.until("conversation.item.retrieved")["item"]["content"]
    assert "word" in part["transcript"]
    assert len(part["transcript"]) < len(spoken(talker.events)) / 2
    talker.send("conversation.item.truncate", item_id=answer, content_index=0, audio_end_ms=500)
    talker.until("conversation.item.truncated")
    talker.append(quiet(1))
    talker.until("input_audio_buffer.committed")
    talker.say("say=yes")
    assert talker.until("response.done")["response"]["status"] == "completed"
    asked = last_request(triton)
    assert [message["role"] for message in asked] == ["user", "assistant", "user", "user"]
    assert asked[1]["content"] == "word word"  # 0.5 s of 0.2 s each
    assert asked[2]["content"] == [{"type": "audio"}]


@pytest.mark.parametrize("detection", [{"type": "server_vad"}, {"type": "semantic_vad", "eagerness": "high"}])
def test_a_pause_ends_a_turn_and_what_was_said_is_all_there(
    detection: dict, talker: Talker, triton: FakeTriton
) -> None:
    talker.update(output_modalities=["text"], audio={"input": {"turn_detection": detection}})
    question = voice()
    talker.append(question)
    talker.append(quiet(1.5))
    done = talker.until("response.done")["response"]
    assert done["status"] == "completed"
    started, stopped, committed = (
        talker.seen(f"input_audio_buffer.{name}")
        for name in ("speech_started", "speech_stopped", "committed")
    )
    assert started["item_id"] == stopped["item_id"] == committed["item_id"]
    (sound,) = [
        raw
        for tensor, raw in zip(*_inputs(list(triton.seen.values())[-1]), strict=True)
        if tensor.name == "audio"
    ]
    begin, end = (event * 24 for event in (started["audio_start_ms"], stopped["audio_end_ms"]))
    heard = len(sound) / 2
    assert heard == pytest.approx(end - begin, abs=100)
    loud = abs(question.astype(int)) > 300
    assert begin <= loud.argmax()
    assert end >= len(question) - loud[::-1].argmax()


def _inputs(request) -> tuple:
    return request.inputs, request.raw_input_contents


def test_quiet_and_noise_start_no_turn_and_are_not_kept(talker: Talker, door: Door) -> None:
    noise = (quiet(20) + np.random.default_rng(0).normal(0, 300, 20 * 24_000)).astype("<i2")
    talker.append(noise)
    talker.update()
    assert not talker.of("input_audio_buffer.speech_started")
    wait_until(lambda: door.realtime.audio_bytes < 4 * 48_000)


def test_system_texts_come_first_and_an_answer_of_its_own_leaves_no_trace(
    talker: Talker, triton: FakeTriton
) -> None:
    talker.update(output_modalities=["text"], instructions="Be brief.")
    system = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be kind."}]}
    talker.add("say=one")
    talker.send("conversation.item.create", item=system)
    own = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "say=two"}]}]
    talker.send("response.create", response={"conversation": "none", "input": own})
    assert talker.until("response.done")["response"]["conversation_id"] is None
    assert last_request(triton)[1]["content"] == [{"type": "text", "text": "say=two"}]
    talker.send("response.create")
    talker.until("response.done")
    assert last_request(triton) == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": [{"type": "text", "text": "say=one"}]},
    ]


def test_a_greeting_answers_its_instructions(talker: Talker, triton: FakeTriton) -> None:
    talker.send("response.create", response={"instructions": "say=hello", "output_modalities": ["text"]})
    assert talker.until("response.done")["response"]["status"] == "completed"
    assert last_request(triton)[-1] == {"role": "user", "content": "say=hello"}
    assert spoken(talker.events) == "hello"


def test_what_the_user_said_is_transcribed_when_the_session_asks_for_it(
    talker: Talker, triton: FakeTriton
) -> None:
    talker.update(audio={"input": {"turn_detection": None, "transcription": {"model": "whisper-1"}}})
    talker.append(quiet(0.5))
    talker.send("input_audio_buffer.commit")
    found = talker.until("conversation.item.input_audio_transcription.completed")
    assert found["item_id"] == talker.seen("input_audio_buffer.committed")["item_id"]
    assert (found["transcript"], found["usage"]["seconds"]) == ("a", 0.5)
    assert last_request(triton)[0]["content"][1]["text"] == "Transcribe the input speech."


def test_items_can_be_placed_read_and_deleted(talker: Talker) -> None:
    first = talker.add("one")
    content = [{"type": "output_text", "text": "two"}]
    item = {"id": "mine", "type": "message", "role": "assistant", "content": content}
    talker.send("conversation.item.create", item=item, previous_item_id="root")
    assert talker.until("conversation.item.added")["previous_item_id"] is None
    talker.send("conversation.item.retrieve", item_id="mine")
    assert talker.until("conversation.item.retrieved")["item"]["content"] == content
    talker.send("conversation.item.delete", item_id=first)
    assert talker.until("conversation.item.deleted")["item_id"] == first
    talker.send("conversation.item.delete", item_id=first)
    assert talker.until("error")["error"]["code"] == "item_not_found"


def test_two_answers_at_once_are_refused_and_nothing_to_cancel_is_no_error(talker: Talker) -> None:
    talker.send("response.cancel")
    talker.say(ENDLESS)
    talker.until("response.created")
    talker.send("response.create", event_id="second")
    error = talker.until("error")["error"]
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "second")
    assert talker.kinds().count("error") == 1
    talker.send("response.cancel")
    assert talker.until("response.done")["response"]["status"] == "cancelled"


def test_a_refusal_of_the_server_fails_the_response_and_not_the_session(talker: Talker) -> None:
    talker.say("error=in ensemble 'x', INVALID_ARGUMENT: parameter 'voice': there is no 'x'")
    failed = talker.until("response.done")["response"]
    assert failed["status"] == "failed"
    assert failed["status_details"]["error"]["message"] == "parameter 'voice': there is no 'x'"
    talker.say("say=again")
    assert talker.until("response.done")["response"]["status"] == "completed"


def test_a_conversation_too_long_for_the_engines_is_asked_again_with_its_newer_half(
    talker: Talker, triton: FakeTriton
) -> None:
    for turn in range(7):
        talker.add(f"say=turn {turn}")
    talker.send("conversation.item.create", item=_assistant("fine"))
    sentence = (
        "prompt of 9 tokens and max_tokens 1024 exceed the 8 tokens of one sequence; shorten the prompt"
    )
    before = len(triton.seen)
    talker.say(f"error=INVALID_ARGUMENT: {sentence}")
    assert talker.until("response.done")["response"]["status"] == "failed"
    asked = [len(messages(request)) for request in list(triton.seen.values())[before:]]
    assert asked == [9, 4, 1]  # an answer without its question is left out too


def test_so_is_a_conversation_of_more_text_than_a_request_may_hold(talker: Talker) -> None:
    talker.add("x" * MAX_TEXT_BYTES)
    talker.send("conversation.item.create", item=_assistant("fine"))
    talker.say("say=again")
    assert talker.until("response.done")["response"]["status"] == "completed"


@pytest.mark.parametrize(
    "text", ["x" * MAX_TEXT_BYTES, "error=INVALID_ARGUMENT: text: 9 tokens, more than the 8"]
)
def test_a_turn_too_long_by_itself_is_refused_and_not_asked_again_for_ever(talker: Talker, text: str) -> None:
    """Of several items that nobody has answered none is left out."""
    talker.add("first")
    talker.add("second")
    talker.say(text)
    assert talker.until("response.done")["response"]["status"] == "failed"


def _assistant(text: str) -> dict:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
