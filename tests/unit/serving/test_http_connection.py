"""What HTTP clients do to a connection, byte by byte; Triton is a stand-in.

Long because a list of what clients do to a socket.
"""

import json
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from serving.address import Ports, claim
from serving.door import http_body, http_connection
from serving.door import relayed_answer as answer_module
from serving.door.admission import Limits
from serving.door.door import Door, TritonAddress
from tests.support.fake_triton import FakeTriton
from tests.support.scrape import wait_until
from tests.support.stand_in_door import door_before

HOST = "127.0.0.1"
STREAM = "/v2/models/audio_flamingo/generate_stream"


@pytest.fixture(scope="module")
def door(triton: FakeTriton) -> Iterator[Door]:
    limits = Limits(message_bytes=4 << 20, upload_bytes=16 << 20)
    with door_before(triton, limits) as made:
        yield made


def connect(door: Door, source: str = HOST) -> socket.socket:
    return socket.create_connection((HOST, door.ports.http), timeout=30, source_address=(source, 0))


def post(body: object, *head: str, path: str = STREAM, version: str = "1.1") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(data)}", *head]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data


def to_the_end(connection: socket.socket) -> bytes:
    found = b""
    while block := connection.recv(65536):
        found += block
    return found


def reply(connection: socket.socket) -> tuple[int, bytes]:
    """One reply with a Content-Length or in chunks, and not a byte of the next; the connection stays open."""
    file = connection.makefile("rb", buffering=0)

    def read(count: int) -> bytes:
        found = b""
        while len(found) < count and (block := file.read(count - len(found))):
            found += block
        return found

    status = int(file.readline().split()[1])
    headers = {}
    while line := file.readline().strip():
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    if headers.get(b"transfer-encoding") == b"chunked":
        body = b""
        while size := int(file.readline(), 16):
            body += read(size)
            file.readline()
        file.readline()
        return status, body
    return status, read(int(headers.get(b"content-length", 0)))


def test_a_connection_serves_one_request_after_the_other(door: Door) -> None:
    with connect(door) as connection:
        for text in ("one", "two"):
            connection.sendall(post({"prompt": f"say={text}"}))
            status, body = reply(connection)
            assert status == 200
            assert f'"text": "{text}"'.encode() in body
        connection.sendall(post({"prompt": "error=INVALID_ARGUMENT: no"}))
        assert reply(connection) == (400, b'{"error": "INVALID_ARGUMENT: no"}')
        connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert reply(connection) == (200, b"")


def test_chunks_are_read(door: Door) -> None:
    data = json.dumps({"prompt": "say=chunked"}).encode()
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(data[at : at + 7]), data[at : at + 7]) for at in range(0, len(data), 7)
    )
    with connect(door) as connection:
        head = f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        connection.sendall(head + chunks + b"0\r\n\r\n")
        assert b"chunked" in reply(connection)[1]


def test_a_client_that_waits_for_100_continue_gets_it_at_once(door: Door) -> None:
    waits_for_100(door, {"prompt": "say=hi"})


def waits_for_100(door: Door, body: object) -> None:
    head, _, data = post(body, "Expect: 100-continue").partition(b"\r\n\r\n")
    with connect(door) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(data)
        assert reply(connection)[0] == 200


def test_a_refused_client_that_waits_for_100_continue_need_not_send_its_body(door: Door) -> None:
    head = f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    with connect(door) as connection:
        connection.sendall(head.encode())
        found = to_the_end(connection)
    assert found.startswith(b"HTTP/1.1 413 ")
    assert b"RESOURCE_EXHAUSTED: the request has 99999999 bytes, the limit is 4194304" in found


def test_a_server_that_lets_nobody_in_asks_for_no_body(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    head = post({"prompt": "say=hi"}, "Expect: 100-continue").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    monkeypatch.setattr(door.admission, "draining", True)
    with connect(door) as connection:
        connection.sendall(head)
        assert to_the_end(connection).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
def test_a_client_that_sends_all_of_a_body_too_large_still_reads_why(announced: bool, door: Door) -> None:
    data = bytes(8 << 20)
    with connect(door) as connection:
        if announced:
            connection.sendall(post(data))
        else:
            head = f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            connection.sendall(head + b"%x\r\n" % len(data) + data + b"\r\n0\r\n\r\n")
        assert reply(connection)[0] == 413
        connection.sendall(post({"prompt": "say=hi"}))  # and the connection is as good as before
        assert reply(connection)[0] == 200


def test_a_client_that_wants_the_connection_closed_reads_why_too(door: Door) -> None:
    """It is closed only when all of the body has come: what comes later would reset it, and lose the reply."""
    with connect(door) as connection:
        request = post(bytes(8 << 20), "Connection: close")
        for at in range(0, len(request), 1 << 20):
            connection.sendall(request[at : at + (1 << 20)])
            time.sleep(0.01)
        assert to_the_end(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("prompt", ["say=whole|many=50", "wait|say=whole"])
def test_a_client_that_closes_its_side_gets_its_answer(prompt: str, door: Door, triton: FakeTriton) -> None:
    with connect(door) as connection:
        connection.sendall(post({"prompt": prompt}))
        connection.shutdown(socket.SHUT_WR)
        if "wait" in prompt:
            time.sleep(1.5 * http_connection.PROBE_S)  # it is probed meanwhile, and stays
            triton.go()
        found = to_the_end(connection)
    assert b"200 OK" in found
    assert b'"finish_reason": "stop"' in found


def test_a_client_that_is_gone_before_the_first_response_is_noticed(door: Door, triton: FakeTriton) -> None:
    triton.hold()
    seen = len(triton.seen)
    with connect(door) as connection:
        connection.sendall(post({"prompt": "wait"}))
        wait_until(lambda: len(triton.seen) > seen)
    wait_until(lambda: door.admission.in_flight == 0, timeout_s=10)


@pytest.mark.parametrize("later", [False, True], ids=["with it", "later"])
@pytest.mark.parametrize(
    "after", [b"\r\n", b"\r\n\r\n", b"nonsense\r\n\r\n", b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"]
)
def test_bytes_after_a_request_do_not_end_its_answer(
    after: bytes, later: bool, door: Door, triton: FakeTriton
) -> None:
    triton.hold()
    seen = len(triton.seen)
    request = post({"prompt": "wait|say=whole|many=30"})
    with connect(door) as connection:
        connection.sendall(request if later else request + after)
        wait_until(lambda: len(triton.seen) > seen)
        if later:
            connection.sendall(after)
            time.sleep(0.1)  # for the door to read them
        triton.go()
        status, body = reply(connection)
    assert status == 200
    assert body.count(b"whole") == 30


def test_an_id_with_half_a_character_costs_no_slot(door: Door) -> None:
    """JSON may write it, UTF-8 cannot: whatever is done with it must not be what gives the slot back."""
    with connect(door) as connection:
        connection.sendall(post(b'{"id": "\\ud800", "prompt": "say=hi"}'))
        assert b'"id": "\\ud800"' in reply(connection)[1]
    for _ in range(3):
        with connect(door) as connection:
            connection.sendall(post(b'{"id": "\\ud800", "prompt": "forever"}'))
            assert connection.recv(64)
    wait_until(lambda: door.admission.in_flight == 0)


def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection(door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(post({"prompt": "say=old|many=3"}, version="1.0"))
        head, _, body = to_the_end(connection).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert [line[:6] for line in body.splitlines() if line] == [b"data: "] * 3


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/health/ready?x=1"])
def test_head_works_on_health(path: str, door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert to_the_end(connection).startswith(b"HTTP/1.1 200 OK")


def test_any_bytes_may_stand_in_a_header(door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(post({"prompt": "say=hi"}, "X-Name: \xe9\xff \xc3\xa9"))
        assert reply(connection)[0] == 200


@pytest.mark.parametrize(
    "bad",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 4 + b"\r\n",
        b"NONSENSE\r\n\r\n",
        f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nContent-Length: {'9' * 5000}\r\n\r\n".encode(),
        f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n".encode(),
        f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n".encode(),
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    ],
    ids=[
        "TLS",
        "no HTTP",
        "digits",
        "smuggled",
        "two lengths",
        "long header",
        "many headers",
        "long path",
        "NUL",
    ],
)
def test_what_is_not_http_is_refused_in_json_and_closed(bad: bytes, door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(bad)
        head, _, body = to_the_end(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"].startswith("INVALID_ARGUMENT: ")


def test_a_stream_is_neither_cached_nor_held_back(door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(post({"prompt": "say=hi"}, "Connection: close"))
        head = to_the_end(connection).partition(b"\r\n\r\n")[0].lower()
    for line in (
        b"content-type: text/event-stream",
        b"cache-control: no-store",
        b"x-accel-buffering: no",
        b"x-request-id: ",
    ):
        assert line in head


def test_a_temporary_refusal_says_when_to_try_again(door: Door) -> None:
    door.admission.draining = True
    with connect(door) as connection:
        connection.sendall(post({"prompt": "say=hi"}, "Connection: close"))
        found = to_the_end(connection)
    door.admission.draining = False
    assert found.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 5\r\n" in found.lower()


def test_a_head_that_never_ends_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "HEAD_S", 0.2)
    for start in (b"", b"POST / HT", b"POST / HTTP/1.1\r\nX: "):
        with connect(door) as connection:
            connection.sendall(start)
            assert to_the_end(connection) == b""


def test_a_body_that_never_ends_is_given_up_and_frees_its_memory(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_body, "IDLE_S", 0.2)
    monkeypatch.setattr(http_body, "DRAIN_S", 0.2)
    with connect(door) as connection:
        connection.sendall(post(b"x" * 1000)[:-10])
        wait_until(lambda: door.relay.uploads.bytes == 990)
        assert to_the_end(connection).startswith(b"HTTP/1.1 504 ")
    wait_until(lambda: (door.relay.uploads.bytes, door.relay.uploads.count) == (0, 0))


def test_a_client_that_leaves_in_the_middle_of_its_body_frees_its_memory(door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(post(b"x" * 1000)[:-10])
        wait_until(lambda: door.relay.uploads.bytes == 990)
    wait_until(lambda: (door.relay.uploads.bytes, door.relay.uploads.count) == (0, 0))


def test_uploads_beyond_the_budget_are_refused_before_they_are_read(door: Door) -> None:
    sources = ("127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3")
    held = [connect(door, source) for source in sources]
    for place, connection in enumerate(held, 1):
        connection.sendall(post(b" " * (4 << 20))[:-1])
        wait_until(lambda place=place: door.relay.uploads.bytes == place * (4 << 20) - place)
    with connect(door, "127.0.0.4") as connection:
        connection.sendall(
            post(b" " * (3 << 20), "Expect: 100-continue").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        )
        found = to_the_end(connection)
    assert found.startswith(b"HTTP/1.1 503 ")
    assert b"are being received, the most that fit in memory" in found
    for connection in held:
        connection.close()
    wait_until(lambda: door.relay.uploads.bytes == 0)


def test_a_web_page_of_another_origin_may_not_call(triton: FakeTriton, door: Door) -> None:
    def status(*head: str, to: Door = door) -> bytes:
        with connect(to) as connection:
            connection.sendall(post({"prompt": "say=hi"}, "Connection: close", *head))
            return to_the_end(connection).split(b"\r\n")[0].split()[1]

    assert status("Origin: http://evil.example") == b"403"
    assert status("Origin: null") == b"403"
    assert status("Origin: http://x") == b"403"  # the name of this server to that page: DNS rebinding
    own = f"127.0.0.1:{door.ports.http}"
    with connect(door) as connection:
        request = post({"prompt": "say=hi"}, f"Origin: http://{own}", "Connection: close")
        connection.sendall(request.replace(b"Host: x", f"Host: {own}".encode()))
        assert to_the_end(connection).startswith(b"HTTP/1.1 200")
    ports = claim(Ports(0, 0, 0), HOST)
    with Door(TritonAddress(triton.ports, ""), HOST, ports, origins=["https://voice.example"]) as other:
        other.admission.ready = True
        assert status("Origin: https://voice.example", to=other) == b"200"
        assert status("Origin: http://evil.example", to=other) == b"403"


def test_a_client_that_does_not_read_loses_its_stream_and_no_slot_of_others(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_module, "UNREAD_S", 0.3)
    with Door(
        TritonAddress(triton.ports, ""), HOST, claim(Ports(0, 0, 0), HOST), Limits(in_flight=1)
    ) as small:
        small.admission.ready = True
        small.relay.unread.shared_bytes = 1 << 20
        with connect(small) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(
                post({"prompt": "forever|big=60000"}, path=STREAM.replace("go/", "go_speech/"))
            )
            wait_until(lambda: small.admission.in_flight == 1)
            wait_until(lambda: small.admission.in_flight == 0)  # it never read a byte
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_connections_without_a_request_make_room_for_those_with_one(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.door.door.connections_allowed", lambda: 8)
    with Door(TritonAddress(triton.ports, ""), HOST, claim(Ports(0, 0, 0), HOST)) as small:
        small.admission.ready = True
        idle = [connect(small) for _ in range(40)]
        with connect(small) as connection:
            connection.sendall(post({"prompt": "say=hi"}))
            assert reply(connection)[0] == 200
        for connection in idle:
            connection.close()


def test_a_body_that_comes_slowly_is_read_as_long_as_it_comes(
    door: Door, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_body, "IDLE_S", 0.6)
    whole = post(b'{"prompt": "say=hi"' + b" " * 600 + b"}", "Connection: close")
    with connect(door) as connection:
        for start in range(0, len(whole), 100):
            connection.sendall(whole[start : start + 100])
            time.sleep(0.1)
        found = to_the_end(connection)
    assert len(whole) / 100 * 0.1 > 0.6
    assert found.startswith(b"HTTP/1.1 200 ")


def test_a_body_in_chunks_and_the_next_request_behind_it_are_both_answered(door: Door) -> None:
    body = json.dumps({"prompt": "say=hi", "audio": "A" * 300_000}).encode()
    head = f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunks = b"".join(
        f"{len(block):x}\r\n".encode() + block + b"\r\n"
        for block in (body[start : start + 7000] for start in range(0, len(body), 7000))
    )
    with connect(door) as connection:
        connection.sendall(head + chunks + b"0\r\n\r\n" + post({"prompt": "say=ho"}))
        assert b'"text": "hi"' in reply(connection)[1]
        assert b'"text": "ho"' in reply(connection)[1]


@pytest.mark.parametrize("sent", [1 << 20, 5 << 20])
def test_a_body_refused_in_its_middle_is_drained_and_its_client_reads_why(door: Door, sent: int) -> None:
    """By its structure, which is seen at once, and by its size, in chunks that announce none."""
    marks = b"[" * 200_000 if sent < 4 << 20 else b""
    head = f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with connect(door) as connection:
        connection.sendall(
            head + f"{len(marks):x}\r\n".encode() * bool(marks) + marks + b"\r\n" * bool(marks)
        )
        for _ in range(sent // 0x10000):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
        status, said = reply(connection)
    assert status == (400 if marks else 413)
    assert (b"commas, colons, brackets" if marks else b"send shorter or compressed") in said
    wait_until(lambda: (door.relay.uploads.bytes, door.relay.uploads.count) == (0, 0))
