"""Large requests are sent to Triton by a loop of their own, and are answered, stopped and refused as any other."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc.aio
import pytest

from serving.address import Ports, claim
from serving.door import relayed_answer
from serving.door.admission import Limits
from serving.door.door import Door, TritonAddress
from serving.door.far_stream import AHEAD, LARGE_BYTES, FarStream
from tests.support.fake_triton import FakeTriton
from tests.support.scrape import wait_until
from tests.support.stand_in_door import HOST, door_before
from tests.unit.serving.test_http_connection import connect, post, reply

CLIP = "A" * (LARGE_BYTES + 4)


@pytest.fixture(scope="module")
def door(triton: FakeTriton) -> Iterator[Door]:
    with door_before(triton, Limits(in_flight=2)) as made:
        yield made


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[FarStream]:
    """Those that were made."""
    found: list[FarStream] = []
    real = FarStream.__init__

    def init(stream: FarStream, *arguments: Any) -> None:
        real(stream, *arguments)
        found.append(stream)

    monkeypatch.setattr(FarStream, "__init__", init)
    return found


def ask(door: Door, prompt: str, audio: str = CLIP) -> tuple[int, bytes]:
    with connect(door) as connection:
        connection.sendall(post({"prompt": prompt, "audio": audio}))
        return reply(connection)


def test_the_doors_loop_hands_no_large_request_to_grpc(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC copies it there and then; a small one is not worth another thread."""
    written: list[tuple[str, int]] = []
    mixin = grpc.aio._call._StreamRequestMixin
    real = mixin.write

    async def write(call: Any, request: tuple[bytes, ...]) -> None:
        written.append((threading.current_thread().name, sum(map(len, request))))
        await real(call, request)

    monkeypatch.setattr(mixin, "write", write)
    assert ask(door, "say=hi")[0] == 200
    assert ask(door, "say=hi", "A" * 4000)[0] == 200
    assert [size > LARGE_BYTES for _, size in written] == [True, False]
    assert [name == door._thread.name for name, _ in written] == [False, True]


def test_the_answer_is_whole_and_in_order(door: Door, triton: FakeTriton) -> None:
    status, body = ask(door, "say=x|many=300")
    assert (status, body.count(b'"text": "x"')) == (200, 300)
    assert [f'"index": {place}' in line for place, line in enumerate(body.decode().split("\n\n")[:300])] == [
        True
    ] * 300
    assert list(triton.seen.values())[-1].raw_input_contents[0][4:] == CLIP.encode()


@pytest.mark.parametrize(
    ("prompt", "status", "said"),
    [("error=INVALID_ARGUMENT: no", 400, b"INVALID_ARGUMENT: no"), ("die", 503, b"UNAVAILABLE")],
)
def test_a_failure_is_told(prompt: str, status: int, said: bytes, door: Door) -> None:
    found, body = ask(door, prompt)
    assert (found, said in body) == (status, True)
    wait_until(lambda: door.admission.in_flight == 0)


def test_small_and_large_requests_and_stops_all_bring_tritons_key(own_triton: FakeTriton) -> None:
    with Door(TritonAddress(own_triton.ports, "secret"), HOST, claim(Ports(0, 0, 0), HOST)) as own:
        own.admission.ready = True
        assert ask(own, "say=hi")[0] == ask(own, "say=hi", "A" * 4000)[0] == 200
        with connect(own) as connection:
            connection.sendall(post({"prompt": "forever"}))
            assert connection.recv(64)
        wait_until(lambda: own.admission.in_flight == 0)
    assert own_triton.stops
    assert list(own_triton.keys) == ["secret"]


def test_a_failure_in_the_middle_is_told(door: Door) -> None:
    _, body = ask(door, "say=x|many=9|die=5")
    assert body.count(b'"text": "x"') == 5
    assert b"UNAVAILABLE" in body


def test_a_client_that_leaves_stops_its_answer(door: Door, triton: FakeTriton) -> None:
    with connect(door) as connection:
        connection.sendall(post({"prompt": "forever", "audio": CLIP}))
        connection.recv(1)
    wait_until(lambda: (door.admission.in_flight, triton.live) == (0, 0))


def test_a_triton_that_is_away_is_told_and_comes_back(streams: list[FarStream]) -> None:
    with FakeTriton() as triton:
        ports = triton.ports
        with door_before(triton) as door:
            assert ask(door, "say=hi")[0] == 200
    with Door(TritonAddress(ports, ""), HOST, claim(Ports(0, 0, 0), HOST)) as door:
        door.admission.ready = True
        assert ask(door, "say=hi")[0] == 503
        wait_until(lambda: door.admission.in_flight == 0)
    assert len(streams) == 2


def test_what_nobody_reads_is_not_read_from_triton_either(
    door: Door, streams: list[FarStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relayed_answer, "UNREAD_S", 60.0)
    monkeypatch.setattr(door.relay.unread, "shared_bytes", 0)
    with connect(door) as connection:
        connection.sendall(
            post(
                {"prompt": "forever|big=60000", "audio": CLIP},
                path="/v2/models/audio_flamingo_speech/generate_stream",
            )
        )
        wait_until(lambda: bool(streams) and len(streams[0]._responses) >= AHEAD)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            assert len(streams[0]._responses) <= AHEAD
            time.sleep(0.01)
    wait_until(lambda: door.admission.in_flight == 0)


def test_a_door_that_closes_leaves_no_thread(triton: FakeTriton) -> None:
    before = set(threading.enumerate())
    with door_before(triton) as door:
        assert ask(door, "say=hi")[0] == 200
        assert "door large" in {thread.name for thread in set(threading.enumerate()) - before}
        with connect(door) as connection:
            connection.sendall(post({"prompt": "forever", "audio": CLIP}))
            connection.recv(1)
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not left & {"door", "door large"}
