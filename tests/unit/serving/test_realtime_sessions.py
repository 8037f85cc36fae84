"""Realtime against a stand-in of Triton: events, their order, what is refused, what is left."""

import json
from collections.abc import Iterator

import pytest

from serving.address import Ports, claim, location
from serving.door.door import Door, TritonAddress
from serving.door.realtime.realtime_limits import DEFAULT_REALTIME, RealtimeLimits
from tests.support.fake_triton import FakeTriton
from tests.support.realtime_client import Talker, spoken

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def triton() -> Iterator[FakeTriton]:
    with FakeTriton() as fake:
        yield fake


def door_before(triton: FakeTriton, limits: RealtimeLimits = DEFAULT_REALTIME) -> Door:
    door = Door(TritonAddress(triton.ports, ""), HOST, claim(Ports(0, 0, 0), HOST), realtime=limits)
    door.admission.ready = True
    return door


@pytest.fixture(scope="module")
def door(triton: FakeTriton) -> Iterator[Door]:
    with door_before(triton) as made:
        yield made


def address(door: Door) -> str:
    return f"ws://{location(door.host, door.ports.http)}"


@pytest.fixture
def talker(door: Door) -> Iterator[Talker]:
    with Talker(address(door)) as connected:
        yield connected


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


def test_an_answer_is_spoken_at_the_rate_of_the_session(talker: Talker) -> None:
    talker.say("say=la |many=4|big=8820|hz=22050")
    done = talker.until("response.done")["response"]
    assert done["status"] == "completed"
    assert len(talker.speech()) / 2 / 24_000 == pytest.approx(4 * 4410 / 22_050, abs=0.002)
    assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": "la la la la "}]


def test_push_to_talk_sends_what_was_said_and_earlier_turns_with_it(
    talker: Talker, triton: FakeTriton
) -> None:
    talker.update(output_modalities=["text"], audio={"input": {"turn_detection": None}})
    sounds = [bytes([turn]) * 9600 for turn in (1, 2)]
    for sound in sounds:
        talker.append(sound)
        talker.send("input_audio_buffer.commit")
        talker.until("input_audio_buffer.committed")
        talker.send("response.create")
        assert talker.until("response.done")["response"]["status"] == "completed"
    request = list(triton.seen.values())[-1]
    audio, messages = request.raw_input_contents
    roles = [message["role"] for message in json.loads(messages[4:])]
    assert roles == ["user", "assistant", "user"]
    assert [sound in audio for sound in sounds] == [True, True]
    assert request.inputs[0].shape == [2]
