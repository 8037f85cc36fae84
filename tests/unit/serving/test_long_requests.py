"""Short requests never wait for the decoding of others' long clips."""

import base64
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from af3.contract import DEFAULT_ANSWER_TOKENS, LONGEST_ANSWER_TOKENS
from serving.door.admission import Admission, Limits, Slot
from serving.door.caller import Caller
from serving.door.door import Door
from serving.door.request_cost import LONG_BYTES, LONG_CLIPS, LONG_TEXT_BYTES, most_tokens, takes_long
from serving.door.wire_request import WireRequest, read
from tests.support.fake_triton import FakeTriton
from tests.support.scrape import wait_until
from tests.support.stand_in_door import door_before
from tests.support.two_protocols import PROTOCOLS, ask

LONG, SHORT = True, False
CLIP = "data:;base64," + base64.b64encode(bytes(LONG_BYTES)).decode()


def admission(decoding: int | None, at_triton: int = 4) -> Admission:
    made = Admission(Limits(at_triton=at_triton, decoding=decoding))
    made.ready = True
    return made


def waiting(slots: list[Slot]) -> list[bool]:
    return [slot.waiting for slot in slots]


def test_long_requests_go_to_triton_as_those_before_are_decoded() -> None:
    to, caller = admission(decoding=1), Caller()
    slots = [to.enter(caller, LONG) for _ in range(3)]
    assert waiting(slots) == [False, True, True]
    for _ in range(2):
        slots[0].decoded()  # the second time it makes no room: it holds none
    assert waiting(slots) == [False, False, True]
    slots[1].release()  # refused before it was decoded
    assert waiting(slots) == [False, False, False]


def test_a_short_request_passes_those_that_wait_for_a_decoder_and_they_hold_no_place() -> None:
    to, caller = admission(decoding=1, at_triton=2), Caller()
    flood = [to.enter(caller, LONG) for _ in range(8)]
    short = to.enter(caller, SHORT)
    assert not short.waiting
    assert waiting(flood) == [False] + 7 * [True]
    flood[0].decoded()  # its answer is still being given: there is no place for the next
    assert waiting(flood[1:]) == 7 * [True]
    short.release()
    assert waiting(flood[1:]) == [False] + 6 * [True]


def test_a_long_request_waits_for_one_of_another_caller_not_for_all_of_them() -> None:
    to, many, one = admission(decoding=1), Caller(), Caller()
    flood = [to.enter(many, LONG) for _ in range(5)]
    single = to.enter(one, LONG)
    flood[0].decoded()
    assert not single.waiting
    assert waiting(flood) == [False] + 4 * [True]


def test_one_that_leaves_while_it_waits_is_forgotten() -> None:
    to, caller = admission(decoding=1), Caller()
    first, second, third = (to.enter(caller, LONG) for _ in range(3))
    second.release()
    second.decoded()
    assert third.waiting
    first.decoded()
    assert not third.waiting


def test_without_a_limit_all_go_at_once() -> None:
    to, caller = admission(decoding=None), Caller()
    assert waiting([to.enter(caller, LONG) for _ in range(4)]) == 4 * [False]


def outlined(clips: int = 0, clip: int = 100, text: int = 20, raw: bool = True) -> WireRequest:
    """As it comes over the wire, with raw contents or without."""
    request = service_pb2.ModelInferRequest(model_name="audio_flamingo")
    for name, elements in {"audio": [b"x" * clip] * clips, "prompt": [b"y" * text]}.items():
        if not elements:
            continue
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[len(elements)])
        if raw:
            request.raw_input_contents.append(b"".join(len(e).to_bytes(4, "little") + e for e in elements))
        else:
            tensor.contents.bytes_contents.extend(elements)
    return read(request.SerializeToString())[0]


@pytest.mark.parametrize("raw", [True, False])
def test_a_request_is_long_by_its_bytes_its_clips_or_its_text(raw: bool) -> None:
    """150 clips of half a second in AMR are 125 KB, and ffmpeg starts for each of them."""
    assert not takes_long(outlined(raw=raw))
    assert not takes_long(outlined(clips=LONG_CLIPS, text=LONG_TEXT_BYTES, raw=raw))
    assert takes_long(outlined(clips=1, clip=LONG_BYTES, raw=raw))
    assert takes_long(outlined(clips=LONG_CLIPS + 1, raw=raw))
    assert takes_long(outlined(text=LONG_TEXT_BYTES + 1, raw=raw))


@pytest.fixture
def door(own_triton: FakeTriton) -> Iterator[Door]:
    with door_before(own_triton, Limits(at_triton=4, decoding=1)) as made:
        yield made


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_step_that_decodes_says_when_the_next_may_come(
    protocol: str, own_triton: FakeTriton, door: Door
) -> None:
    """And a request without a clip is answered meanwhile."""
    with ThreadPoolExecutor(2) as asking:
        first = asking.submit(ask, protocol, door, "wait|say=first", audio=[CLIP])
        wait_until(lambda: len(own_triton.seen) == 1)
        (seen,) = own_triton.seen
        second = asking.submit(ask, protocol, door, "say=second", audio=[CLIP])
        wait_until(lambda: door.admission.in_flight == 2)
        assert ask(protocol, door, "say=short").text == "short"
        assert not second.done()
        assert len(own_triton.seen) == 2
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.sendto(f"{seen} 600.0".encode(), door.usage_socket)
        assert second.result(30).text == "second"
        assert not first.done()
        own_triton.go()
        assert first.result(30).text == "first"


def test_a_clip_that_cannot_be_decoded_holds_up_nobody(own_triton: FakeTriton, door: Door) -> None:
    """The step that refuses it tells no length."""
    for _ in range(2):
        assert (
            ask("grpc", door, "error=INVALID_ARGUMENT: audio[0]: no", audio=[CLIP]).sentence == "audio[0]: no"
        )


@pytest.mark.parametrize(
    ("parameter", "tokens"),
    [
        (None, DEFAULT_ANSWER_TOKENS),
        ({"int64_param": 8}, 8),
        ({"uint64_param": 8}, 8),
        ({"int64_param": -5}, 1),
        ({"uint64_param": 2**64 - 1}, LONGEST_ANSWER_TOKENS),
        ({"string_param": "8"}, DEFAULT_ANSWER_TOKENS),
        ({}, DEFAULT_ANSWER_TOKENS),
    ],
)
def test_the_longest_answer_that_a_request_asks_for(parameter: dict[str, Any] | None, tokens: int) -> None:
    head = service_pb2.ModelInferRequest()
    if parameter is not None:
        head.parameters["max_tokens"].CopyFrom(service_pb2.InferParameter(**parameter))
    assert most_tokens(head) == tokens
