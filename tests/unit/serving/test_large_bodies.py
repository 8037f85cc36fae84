"""Bodies that go past the HTTP parser: what comes before, between and after them; Triton is a stand-in."""

import json
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2

from af3.errors import RequestError
from serving.door import http_body
from serving.door.admission import Limits
from serving.door.body_receiver import BLOCK_BYTES, LARGE_BYTES, BodyReceiver
from serving.door.door import Door
from serving.door.http_body import StructureCount, _Body
from serving.door.http_connection import Connection
from serving.door.json_body import MAX_MARKS
from serving.door.tls import Tls
from serving.door.upload_budget import UploadBudget
from tests.support.fake_triton import FakeTriton
from tests.support.scrape import wait_until
from tests.support.stand_in_door import door_before
from tests.unit.serving.test_http_connection import connect, post, reply, to_the_end, waits_for_100
from tests.unit.serving.test_tls_reload import make

CLIP = "A" * (3 * BLOCK_BYTES)
LARGE = {"prompt": "say=large", "audio": CLIP}


@pytest.fixture(scope="module")
def door(triton: FakeTriton) -> Iterator[Door]:
    with door_before(triton, Limits(message_bytes=4 << 20, upload_bytes=16 << 20)) as made:
        yield made


def last(triton: FakeTriton) -> service_pb2.ModelInferRequest:
    return list(triton.seen.values())[-1]


def nothing_held(door: Door) -> bool:
    return (door.relay.uploads.bytes, door.relay.uploads.count) == (0, 0)


@pytest.mark.parametrize("first", [0, 1, 100, 70_000], ids=lambda size: f"{size} bytes with the head")
def test_a_large_body_arrives_whole_and_the_connection_goes_on(
    first: int, door: Door, triton: FakeTriton
) -> None:
    request = post(LARGE)
    start = request.index(b"\r\n\r\n") + 4 + first
    with connect(door) as connection:
        for _ in range(2):
            connection.sendall(request[:start])
            wait_until(lambda: door.relay.uploads.count == 1)
            connection.sendall(request[start:])
            assert b'"text": "large"' in reply(connection)[1]
            assert CLIP.encode() in last(triton).raw_input_contents[0]
            connection.sendall(post({"prompt": "say=small"}))
            assert b'"text": "small"' in reply(connection)[1]


@pytest.mark.parametrize("second", [{"prompt": "say=small"}, {**LARGE, "prompt": "say=small"}])
def test_what_follows_a_large_body_is_the_next_request(second: dict[str, str], door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(post(LARGE) + post(second) + post(LARGE))
        for text in ("large", "small", "large"):
            assert f'"text": "{text}"'.encode() in reply(connection)[1]
    wait_until(lambda: nothing_held(door))


def test_a_large_body_whose_client_waits_for_100_continue(door: Door) -> None:
    waits_for_100(door, LARGE)


def test_a_large_body_over_http_1_0_has_its_answer_and_the_end(door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(post(LARGE, version="1.0"))
        assert b'"text": "large"' in to_the_end(connection)


def test_a_large_body_refused_in_its_middle_is_drained_and_the_connection_goes_on(door: Door) -> None:
    head, _, _ = post(b" " * (3 << 20)).partition(b"\r\n\r\n")
    start = b'{"a": ' + b" " * 100_000
    with connect(door) as connection:
        connection.sendall(head + b"\r\n\r\n" + start)
        wait_until(lambda: door.relay.uploads.bytes == len(start))
        connection.sendall(b"[" * 200_000 + b" " * ((3 << 20) - 200_000 - len(start)))
        status, said = reply(connection)
        assert (status, b"commas, colons, brackets" in said) == (400, True)
        assert nothing_held(door)
        connection.sendall(post({"prompt": "say=small"}))
        assert b'"text": "small"' in reply(connection)[1]


@pytest.fixture
def read_in_loop(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each read of a connection had that the event loop itself made."""
    sizes: list[int] = []
    parse, drop = Connection.data_received, BodyReceiver.buffer_updated

    def parsed(self: Connection, data: bytes) -> None:
        sizes.append(len(data))
        parse(self, data)

    def dropped(self: BodyReceiver, nbytes: int) -> None:
        sizes.append(nbytes)
        drop(self, nbytes)

    monkeypatch.setattr(Connection, "data_received", parsed)
    monkeypatch.setattr(BodyReceiver, "buffer_updated", dropped)
    return sizes


@pytest.mark.parametrize("status", [400, 413])
def test_what_is_left_of_a_refused_body_does_not_take_the_loop(
    status: int, door: Door, read_in_loop: list[int]
) -> None:
    """55 clients that were told to wait, and sent 100 MB each all the same, held up all others for seconds."""
    size = 4_000_000 if status == 400 else 40_000_000
    with connect(door) as connection:
        connection.sendall(post(b"[" * size))
        assert reply(connection)[0] == status
        connection.sendall(post({"prompt": "say=small"}))
        assert b'"text": "small"' in reply(connection)[1]
    assert sum(read_in_loop) < 1 << 20
    assert nothing_held(door)


def test_a_client_that_leaves_while_its_refused_body_is_dropped_is_noticed(door: Door) -> None:
    open_files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with connect(door) as connection:
        connection.sendall(post(b"[" * 3_000_000)[:-10])
        assert connection.recv(64).startswith(b"HTTP/1.1 400 ")
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= open_files)  # noqa: PTH208


def test_a_client_that_leaves_in_the_middle_of_a_large_body_frees_its_memory(door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(post(LARGE)[:-10])
        wait_until(lambda: door.relay.uploads.bytes > len(CLIP))
    wait_until(lambda: nothing_held(door))


def test_a_client_that_closes_its_side_in_the_middle_of_a_large_body_frees_its_memory(door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(post(LARGE)[:-10])
        connection.shutdown(socket.SHUT_WR)
        assert to_the_end(connection) == b""
    wait_until(lambda: nothing_held(door))


def test_a_client_that_closes_its_side_after_a_large_body_gets_its_answer(door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(post(LARGE))
        connection.shutdown(socket.SHUT_WR)
        assert b'"text": "large"' in to_the_end(connection)


def test_a_large_body_that_stops_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_body, "IDLE_S", 0.3)
    monkeypatch.setattr(http_body, "DRAIN_S", 0.3)
    with connect(door) as connection:
        connection.sendall(post(LARGE)[:-10])
        assert to_the_end(connection).startswith(b"HTTP/1.1 504 ")
    wait_until(lambda: nothing_held(door))


def test_two_large_bodies_at_once_do_not_mix(door: Door, triton: FakeTriton) -> None:
    """Their blocks come in turns, into the same buffer."""
    requests = [post({"prompt": f"say={letter}", "audio": letter * len(CLIP)}) for letter in "ab"]
    connections = [connect(door, f"127.0.0.{place}") for place in (1, 2)]
    seen = len(triton.seen)
    for start in range(0, len(requests[0]), 50_000):
        for connection, request in zip(connections, requests, strict=True):
            connection.sendall(request[start : start + 50_000])
    for connection, letter in zip(connections, "ab", strict=True):
        assert f'"text": "{letter}"'.encode() in reply(connection)[1]
        connection.close()
    found = sorted(request.raw_input_contents[0][4:] for request in list(triton.seen.values())[seen:])
    assert found == [letter.encode() * len(CLIP) for letter in "ab"]


def test_a_large_body_over_tls(triton: FakeTriton, tmp_path: Path) -> None:
    make(tmp_path, "server")
    context = ssl.create_default_context(cafile=tmp_path / "server.pem")
    tls = Tls(tmp_path / "server.pem", tmp_path / "server.key")
    with (
        door_before(triton, tls=tls) as door,
        context.wrap_socket(connect(door), server_hostname="127.0.0.1") as connection,
    ):
        for text in ("large", "again"):
            connection.sendall(post({**LARGE, "prompt": f"say={text}"}))
            assert f'"text": "{text}"'.encode() in reply(connection)[1]
            assert CLIP.encode() in last(triton).raw_input_contents[0]
            connection.sendall(post({"prompt": "say=small"}))
            assert b'"text": "small"' in reply(connection)[1]


def test_the_clip_of_these_tests_is_large() -> None:
    assert len(json.dumps(LARGE)) > 2 * LARGE_BYTES


def test_a_body_that_is_refused_keeps_nothing_of_it() -> None:
    """The one that told it so may live on, while what is left of the request is read."""
    budget = UploadBudget(Limits(message_bytes=100))
    body = _Body(budget.open(), StructureCount())
    body.take(b" " * 60, 60)
    with pytest.raises(RequestError, match="the limit is 100"):
        body.take(b" " * 60, 60)
    assert not body.content
    assert budget.bytes == 0


def test_a_body_that_must_not_be_parsed_keeps_nothing_of_it_either() -> None:
    budget = UploadBudget(Limits())
    body = _Body(budget.open(), StructureCount())
    body.take(b"[" * MAX_MARKS, MAX_MARKS)
    with pytest.raises(RequestError, match="commas, colons, brackets"):
        body.take(b"[", 1)
    assert not body.content
    assert budget.bytes == 0
