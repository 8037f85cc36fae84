"""What a client pays a few bytes for is counted, part by part; Triton is a stand-in."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from serving.door import http_parts
from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.stand_in_door import HOST, door_before

GENERATE = "/v2/models/audio_flamingo/generate"
HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
CLIP = 300 << 10  # larger than what goes through the parser
OFFERS = {
    "h2c": "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    "a WebSocket": "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "something": "Upgrade: something\r\nConnection: Upgrade\r\n",
}


@pytest.fixture(scope="module")
def door(triton: FakeTriton) -> Iterator[Door]:
    with door_before(triton) as made:
        yield made


def sent(door: Door, data: bytes, source: str = HOST) -> bytes:
    """All that comes back until the server closes."""
    with socket.create_connection((HOST, door.ports.http), 30, (source, 0)) as connection:
        connection.sendall(data)
        found = b""
        while block := connection.recv(65536):
            found += block
        return found


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def test_a_few_requests_at_once_are_all_answered(door: Door) -> None:
    last = head("/v2/health/live", "Connection: close", method="GET")
    assert sent(door, HEALTH * 40 + last).count(b"HTTP/1.1 200 OK") == 41


def test_requests_without_end_on_one_connection_are_not_all_taken_in(door: Door) -> None:
    found = sent(door, HEALTH * 1000)
    assert 0 < found.count(b"HTTP/1.1 200 OK") <= http_parts.MOST_WAITING + 1
    assert b"400" not in found, "a refusal stands amid the answers to other requests"


def test_a_broken_request_behind_others_does_not_end_their_answers(door: Door) -> None:
    broken = head(GENERATE, "Transfer-Encoding: chunked") + b"nonsense\r\n"
    found = sent(door, HEALTH * 3 + broken)
    assert found.count(b"HTTP/1.1 200 OK") == 3
    assert found.count(b"HTTP/1.1") == 3


def test_a_body_in_very_many_tiny_chunks_is_refused(door: Door) -> None:
    body = chunk(b'{"prompt": "') + chunk(b"x") * (http_parts.FREE_CHUNKS + 1)
    found = sent(door, head(GENERATE, "Transfer-Encoding: chunked") + body)
    assert found.startswith(b"HTTP/1.1 400 ")
    assert b"chunks of less than 64 bytes; send larger ones" in found


@pytest.mark.parametrize("count, size", [(1000, 1), (http_parts.FREE_CHUNKS + 100, 80)])
def test_a_body_in_chunks_of_usual_size_is_read(count: int, size: int, door: Door) -> None:
    body = chunk(b'{"prompt": "say=read", "id": "')
    body += chunk(b'x", "nonsense": "') + chunk(b"x" * size) * count + chunk(b'"}') + b"0\r\n\r\n"
    found = sent(door, head(GENERATE, "Transfer-Encoding: chunked", "Connection: close") + body)
    assert found.startswith(b"HTTP/1.1 200 ")


def test_an_extension_of_a_chunk_without_end_is_refused(door: Door) -> None:
    data = head(GENERATE, "Transfer-Encoding: chunked") + b"2;x=" + b"y" * (http_parts.FREE_BYTES + 100_000)
    assert http_parts.NO_CONTENTS.encode() in sent(door, data)


def test_trailers_are_no_headers(door: Door) -> None:
    body = chunk(json.dumps({"prompt": "say=plain"}).encode()) + b"0\r\nContent-Encoding: gzip\r\n\r\n"
    found = sent(door, head(GENERATE, "Transfer-Encoding: chunked", "Connection: close") + body)
    assert found.startswith(b"HTTP/1.1 200 ")


def test_trailers_without_end_are_refused(door: Door) -> None:
    body = chunk(b"{}") + b"0\r\n" + b"X: y\r\n" * 10_000
    found = sent(door, head(GENERATE, "Transfer-Encoding: chunked") + body)
    assert b"the trailers of the request have more than 32768 bytes" in found


@pytest.mark.parametrize("size", [1, CLIP])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("offer", OFFERS)
def test_a_request_that_offers_an_upgrade_keeps_its_body(
    offer: str, chunked: bool, size: int, door: Door
) -> None:
    """Java's client offers h2c with its first request, whatever that is."""
    body = json.dumps({"prompt": "say=kept", "nonsense": "x" * size}).encode()
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    data = chunk(body) + b"0\r\n\r\n" if chunked else body
    found = sent(door, head(GENERATE, framing, *OFFERS[offer].splitlines()) + data)
    assert found.startswith(b"HTTP/1.1 200 ")
    assert b"kept" in found


@pytest.mark.parametrize("offer", ["h2c", "something"])
def test_an_offer_without_a_body_is_answered_too(offer: str, door: Door) -> None:
    found = sent(door, head("/v1/models", *OFFERS[offer].splitlines(), method="GET"))
    assert found.startswith(b"HTTP/1.1 200 ")


def test_a_websocket_with_a_body_is_no_websocket(door: Door) -> None:
    lines = [*OFFERS["a WebSocket"].splitlines(), "Content-Length: 2"]
    assert sent(door, head("/v1/realtime", *lines, method="GET") + b"{}").startswith(b"HTTP/1.1 426 ")


@pytest.mark.parametrize("origin, host", [("http://[::1", "[::1"), ("http://[\xff", "x"), ("http://]", "]")])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/realtime"])
def test_a_page_whose_origin_is_no_url_is_refused(origin: str, host: str, path: str, door: Door) -> None:
    lines = [*(OFFERS["a WebSocket"].splitlines() if "realtime" in path else ()), "Connection: close"]
    request = "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", f"Origin: {origin}", *lines, "", ""])
    assert sent(door, request.encode("latin-1")).startswith(b"HTTP/1.1 403 ")


def test_two_hosts_are_refused(door: Door) -> None:
    found = sent(door, head("/v1/models", "Host: y", method="GET"))
    assert found.startswith(b"HTTP/1.1 400 ")
    assert b"two Host headers; send one" in found
