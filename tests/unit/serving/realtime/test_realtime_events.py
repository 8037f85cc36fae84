"""docs/realtime.md says which events there are: what a session takes and sends is held against it, and against
OpenAI's own types."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent

from serving.door.door import Door
from tests.support import openai_api, scrape
from tests.support.fake_triton import FakeTriton
from tests.support.realtime_client import Event, Talker
from tests.support.realtime_door import address, door_before, quiet, voice
from tests.support.scrape import wait_until

DOCUMENT = (Path(__file__).parents[4] / "docs" / "realtime.md").read_text()
PUSH_TO_TALK = {"input": {"turn_detection": None}}
# What OpenAI's server sends too, and its types (made for what a client may send) do not have.
OF_A_SESSION = {f".session.{name}" for name in ("id", "object", "expires_at", "temperature")}
SOUND = base64.b64encode(bytes(9600)).decode()
ITEM = {"id": "mine", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "say=x"}]}
FUNCTION = {"type": "function_call_output", "call_id": "c", "output": "{}"}
# One valid event of each kind that a client may send; those above it are sent before.
CLIENT: dict[str, list[Event]] = {
    "session.update": [{"session": {"type": "realtime", "audio": PUSH_TO_TALK}}],
    "input_audio_buffer.append": [{"audio": SOUND}],
    "input_audio_buffer.commit": [{}],
    "input_audio_buffer.clear": [{}],
    "conversation.item.create": [{"item": ITEM}],
    "conversation.item.retrieve": [{"item_id": "mine"}],
    "conversation.item.delete": [{"item_id": "mine"}],
    "response.create": [{"response": {"instructions": "say=hello"}}],
    "conversation.item.truncate": [{"content_index": 0, "audio_end_ms": 100}],
    "response.cancel": [{}],
    "output_audio_buffer.clear": [{}],
    "transcription_session.update": [{"session": {}}],
}


def names(text: str) -> list[str]:
    """Events in backticks; one that begins with a dot has the beginning of the one before."""
    found: list[str] = []
    for name in re.findall(r"`([a-z_.]+)`", text):
        found.append(found[-1].rpartition(".")[0] + name if name.startswith(".") else name)
    return found


def section(title: str) -> str:
    return DOCUMENT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def types_of(union: Any) -> set[str]:
    events = get_args(get_args(union)[0])
    return {kind for event in events for kind in get_args(event.model_fields["type"].annotation)}


def said_of_clients() -> dict[str, str]:
    """`yes`, `ignored` or `refused` by event."""
    rows = re.findall(
        r"^\| (`.*?`.*?) \| (yes|ignored|refused) \|", section("What a client sends"), re.MULTILINE
    )
    return {name: how for cell, how in rows for name in names(cell) if "." in name}


def said_of_the_server() -> tuple[set[str], set[str]]:
    """Events that are sent, and those that are not."""
    sent, _, rest = section("What the server sends").partition("Not sent:")
    unsent = rest.split("\n\n")[0]
    return {name for name in names(sent) if name != "usage"}, set(names(unsent))


def test_the_table_names_every_event_that_openais_clients_can_send() -> None:
    assert types_of(RealtimeClientEvent) <= set(said_of_clients())


def test_every_event_of_a_client_is_taken_as_the_table_says(talker: Talker) -> None:
    table = said_of_clients()
    assert set(CLIENT) == set(table)
    for kind, bodies in CLIENT.items():
        for body in bodies:
            if kind == "conversation.item.truncate":
                body = {**body, "item_id": talker.seen("response.output_item.added")["item"]["id"]}
            before = len(talker.events)
            talker.send(kind, event_id=kind, **body)
            if kind == "response.create":
                talker.until("response.done")
            talker.update()  # what came before it has been read
            errors = [event["error"] for event in talker.of("error", before)]
            refused = [error["event_id"] for error in errors] == [kind]
            assert refused == (table[kind] == "refused"), (kind, errors)
            assert refused or not errors


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("conversation.item.create", {"item": FUNCTION}),
        ("session.update", {"session": {"type": "transcription"}}),
        ("response.create", {"response": {"tools": [{"type": "function", "name": "f"}]}}),
    ],
)
def test_what_the_table_refuses_beside_events_is_refused(kind: str, body: Event, talker: Talker) -> None:
    talker.send(kind, event_id="e", **body)
    assert talker.until("error")["error"]["event_id"] == "e"


def everything(talker: Talker) -> None:
    """A conversation in which every event of the server comes once at least."""
    transcribed = {"input": {"turn_detection": {"type": "server_vad"}, "transcription": {"model": "any"}}}
    talker.update(audio=transcribed)
    talker.append(voice())
    talker.append(quiet(1.5))
    talker.until("response.done")
    talker.seen("conversation.item.input_audio_transcription.completed")
    talker.update(audio={"input": {"turn_detection": None}})
    for kind in ("append", "clear"):
        talker.send(f"input_audio_buffer.{kind}", **({"audio": SOUND} if kind == "append" else {}))
    answer = talker.of("response.output_item.added")[0]["item"]["id"]
    talker.send("conversation.item.truncate", item_id=answer, content_index=0, audio_end_ms=50)
    talker.send("conversation.item.retrieve", item_id=answer)
    talker.send("conversation.item.delete", item_id=answer)
    talker.update(output_modalities=["text"])
    talker.say("say=word |many=3|tokens=30,10", metadata={"mine": "1"})
    talker.until("response.done")
    talker.say("say=word |forever")
    talker.until("response.output_text.delta")
    talker.send("response.cancel")
    talker.until("response.done")
    talker.say("error=INVALID_ARGUMENT: no")
    talker.until("response.done")
    talker.send("nothing.known", event_id="e")
    talker.until("error")


@pytest.fixture(scope="module")
def conversation() -> Iterator[list[Event]]:
    """All events of a session whose every answer is spoken, and one whose transcription fails."""
    with FakeTriton() as triton:
        triton.unprompted = "say=la |many=4|big=8820|hz=22050|tokens=40,25"
        with door_before(triton) as door:
            with Talker(address(door)) as talker:
                everything(talker)
            found = talker.events
            with Talker(address(door)) as talker:
                talker.update(audio={"input": {"turn_detection": None, "transcription": {"model": "any"}}})
                door.admission.draining = True
                talker.send("input_audio_buffer.append", audio=SOUND)
                talker.send("input_audio_buffer.commit")
                talker.until("conversation.item.input_audio_transcription.failed")
            yield found + talker.events


def test_every_event_that_is_sent_is_documented_and_every_documented_one_is_sent(
    conversation: list[Event],
) -> None:
    sent, unsent = said_of_the_server()
    assert {event["type"] for event in conversation} == sent
    assert unsent <= types_of(RealtimeServerEvent) - sent


def test_every_event_is_one_of_openais_types(conversation: list[Event]) -> None:
    by_type = {
        kind: event
        for event in get_args(get_args(RealtimeServerEvent)[0])
        for kind in get_args(event.model_fields["type"].annotation)
    }
    for event in conversation:
        openai_api.valid(by_type[event["type"]], event, OF_A_SESSION)


def test_usage_counts_the_prompts_text_and_sound(conversation: list[Event]) -> None:
    spoken, written, cancelled, failed = (
        event["response"]["usage"] for event in conversation if event["type"] == "response.done"
    )
    for usage, prompt, audio in ((spoken, 40, 25), (written, 30, 10)):
        details = usage["input_token_details"]
        assert (usage["input_tokens"], details["audio_tokens"]) == (prompt, audio)
        assert details["text_tokens"] == prompt - audio
        assert usage["total_tokens"] == prompt + usage["output_tokens"]
    # The prompt is counted in the last response, which these have not had: the length of their clips is known.
    for usage in (cancelled, failed):
        assert usage["input_tokens"] == usage["input_token_details"]["audio_tokens"] > 0


def test_open_sessions_and_their_sound_are_on_metrics(door: Door) -> None:
    def gauges() -> tuple[float, float]:
        found = scrape.read(door)
        return found["af3_realtime_sessions"], found["af3_realtime_bytes"]

    wait_until(lambda: gauges() == (0, 0))
    with Talker(address(door)) as one, Talker(address(door)):
        one.update(audio=PUSH_TO_TALK)
        one.send("input_audio_buffer.append", audio=SOUND)
        one.update()
        assert gauges() == (2, 9600)
    wait_until(lambda: gauges() == (0, 0))
