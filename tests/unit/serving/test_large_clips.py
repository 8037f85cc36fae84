"""What a large clip costs the loop that carries every stream: it is read and copied in other threads."""

import asyncio
import base64
import threading
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request
from tritonclient.grpc import service_pb2

from af3 import contract
from serving.door import affinity, generate_request, http_body, json_body, wire_request
from serving.door.admission import DEFAULT_LIMITS
from serving.door.body_receiver import BLOCK_BYTES
from serving.door.door import Door
from serving.door.http_connection import Connection
from serving.door.upload_budget import UploadBudget
from serving.door.wire_check import SMALL_BYTES
from tests.support import openai_api
from tests.support.fake_triton import FakeTriton

CLIP = bytes(range(256)) * (8 << 10)  # 2 MB
SENT = b"data:;base64," + base64.b64encode(CLIP)
GENERATE = "/v2/models/audio_flamingo/generate"


def ask_chat(door: Door) -> openai_api.Reply:
    message = openai_api.user("say=hi", CLIP)
    return openai_api.post(door, openai_api.CHAT, {"model": openai_api.MODEL, "messages": [message]})


def ask_kserve(door: Door) -> openai_api.Reply:
    return openai_api.post(door, GENERATE, {"prompt": "say=hi", "audio": SENT.decode()})


def ask_by_form(door: Door) -> openai_api.Reply:
    data, headers = openai_api.form({"model": openai_api.MODEL}, CLIP)
    return openai_api.request(door, "POST", "/v1/audio/transcriptions", data, headers)


ASKS = {"chat": (ask_chat, SENT), "generate": (ask_kserve, SENT), "form": (ask_by_form, CLIP)}


@pytest.mark.parametrize("name", ASKS)
def test_the_loop_neither_parses_nor_copies_a_clip(
    name: str, door: Door, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By which thread it is done, and how often the loop is woken for a block of it: never, once it comes."""
    where: dict[str, str] = {}
    woken: list[int] = []

    def watch(module: Any, function: str) -> None:
        real: Callable[..., Any] = getattr(module, function)

        def watched(*arguments: Any) -> Any:
            where[function] = threading.current_thread().name
            return real(*arguments)

        monkeypatch.setattr(module, function, watched)

    watch(json_body, "parse")
    watch(generate_request, "written")
    watch(affinity, "of_bytes")
    real_next = http_body._next

    async def watched_next(receive: Any, taken: Any) -> Any:
        message = await real_next(receive, taken)
        woken.append(len(message.get("body", b"")))
        return message

    monkeypatch.setattr(http_body, "_next", watched_next)
    ask, sent = ASKS[name]
    assert ask(door).status == 200
    assert openai_api.inputs(openai_api.asked(triton))["audio"] == [sent]
    assert set(where) >= {"written", "of_bytes"}
    assert door._thread.name not in where.values()
    assert len(woken) <= 4
    assert sum(woken) < len(CLIP) / 2


@pytest.mark.parametrize("name", ASKS)
def test_a_clip_goes_from_the_socket_to_its_place_past_the_parser(
    name: str, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 2 MB the parser gets what came with the head; another thread reads the rest, which is copied once."""
    parsed: list[int] = []
    taken: list[tuple[int, bool]] = []
    real_received, real_take = Connection.data_received, http_body._Body.take

    def received(connection: Connection, data: bytes) -> None:
        parsed.append(len(data))
        real_received(connection, data)

    def take(body: http_body._Body, buffer: bytes | bytearray, size: int) -> None:
        elsewhere = threading.current_thread() is not door._thread
        taken.append((size, elsewhere and len(buffer) == BLOCK_BYTES))
        real_take(body, buffer, size)

    monkeypatch.setattr(Connection, "data_received", received)
    monkeypatch.setattr(http_body._Body, "take", take)
    ask, sent = ASKS[name]
    assert ask(door).status == 200
    assert sum(parsed) < len(sent) / 2
    assert sum(size for size, beside in taken if beside) > len(sent) / 2
    assert sum(size for size, _ in taken) - len(sent) < 2000


def test_protobuf_does_not_see_a_clip() -> None:
    found, _ = generate_request.to_request(
        "audio_flamingo", {"audio": [CLIP, b"x"], "prompt": "?", "seed": 1}
    )
    assert found.head.ByteSize() < 1000
    whole = service_pb2.ModelInferRequest.FromString(b"".join(found.parts))
    assert whole.id == found.request_id
    assert openai_api.inputs(whole) == {"audio": [CLIP, b"x"], "prompt": [b"?"]}
    assert [len(content) for content in found.contents] == [len(CLIP) + 9, 5]
    assert whole.parameters["seed"].int64_param == 1


def message(clip: bytes) -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name="audio_flamingo", id="mine")
    for name, value in (("audio", clip), ("prompt", b"?")):
        made.inputs.add(name=name, datatype="BYTES", shape=[1])
        made.raw_input_contents.append(len(value).to_bytes(4, "little") + value)
    made.parameters["seed"].int64_param = 1
    return made


@pytest.mark.parametrize("clip", [b"", b"small", bytes(SMALL_BYTES - 50), CLIP])
def test_a_serialised_request_is_the_same_but_for_its_id(clip: bytes) -> None:
    made = message(clip)
    found, client_id = wire_request.read(made.SerializeToString())
    assert client_id == "mine"
    assert len(found.head.raw_input_contents) == 0
    whole = found.whole()
    assert whole.id == found.request_id == found.head.id != "mine"
    whole.id = "mine"
    assert whole == made
    assert [bytes(content) for content in found.contents] == list(made.raw_input_contents)
    assert bytes(found.content(contract.PROMPT)) == made.raw_input_contents[1]
    assert not found.content(contract.MESSAGES)


def test_fields_in_any_order_are_read_as_protobuf_reads_them() -> None:
    """Writers may put contents first, in the middle, or anywhere."""
    made = message(CLIP)
    audio, prompt = (
        service_pb2.ModelInferRequest(raw_input_contents=[content]).SerializeToString()
        for content in made.raw_input_contents
    )
    rest = service_pb2.ModelInferRequest()
    rest.CopyFrom(made)
    del rest.raw_input_contents[:]
    found, client_id = wire_request.read(audio + rest.SerializeToString() + prompt)
    assert (client_id, len(found.head.inputs)) == ("mine", 2)
    assert [bytes(content) for content in found.contents] == list(made.raw_input_contents)


def test_a_content_that_is_put_in_place_leaves_the_rest_as_it_was() -> None:
    found, _ = wire_request.read(message(b"name").SerializeToString())
    whole = found.with_content(contract.AUDIO, [b"\3\0\0\0", memoryview(b"abc")]).whole()
    assert openai_api.inputs(whole) == {"audio": [b"abc"], "prompt": [b"?"]}
    assert whole.parameters["seed"].int64_param == 1


class Cycle:
    """As the connection of a request whose first block came before its task ran, and whose second comes meanwhile."""

    body = bytearray(b'{"a": ')

    async def receive(self) -> dict[str, Any]:
        self.collect(b"1}", 2)  # type: ignore[attr-defined]
        return {"type": "http.request", "body": bytes(self.body), "more_body": False}

    def receive_body(self, cycle: Any, left: int) -> None:
        """The connection's."""


def test_blocks_stay_in_their_order() -> None:
    cycle = Cycle()
    extensions = {"af3.cycle": cycle, "af3.connection": cycle}
    request = Request({"type": "http", "headers": [], "extensions": extensions}, cycle.receive)
    content, upload = asyncio.run(http_body.read_body(request, UploadBudget(DEFAULT_LIMITS)))
    assert (bytes(content), upload.bytes) == (b'{"a": 1}', 8)
