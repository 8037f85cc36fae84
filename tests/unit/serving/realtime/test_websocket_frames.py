"""Frames that cost a client nothing: they neither hold up others nor pile up, and none gets into the log."""

from __future__ import annotations

import logging
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from serving.door import websocket_connection
from serving.door.door import Door
from tests.support.realtime_door import HOST

TEXT, CONTINUED, PING, PONG = 1, 0, 9, 10
UPGRADE = (
    b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
MOST_AFTER_THE_END = 100 << 20
MANY = websocket_connection.TINY_PER_MINUTE + 1000


def frame(kind: int, data: bytes = b"", last: bool = True) -> bytes:
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack("!H", len(data))
    return bytes([(0x80 if last else 0) | kind]) + size + bytes(4) + data


def read(connection: socket.socket, until: bytes = b"") -> bytes:
    """Until these bytes have come, or the server has closed."""
    found = b""
    while (not until or until not in found) and (block := connection.recv(65536)):
        found += block
    return found


@contextmanager
def session(door: Door) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, door.ports.http), timeout=30) as connection:
        connection.sendall(UPGRADE + b"\r\n")
        read(connection, b"session.created")
        yield connection


def closed_with(found: bytes) -> tuple[int, bytes]:
    """Code and reason of the last frame."""
    place = found.rindex(b"\x88")
    return int.from_bytes(found[place + 2 : place + 4], "big"), found[place + 4 :]


FLOODS = {
    "pings": frame(PING) * MANY,
    "pongs": frame(PONG, b"x" * 125) * MANY,
    "parts of one message": frame(TEXT, last=False) + frame(CONTINUED, last=False) * MANY,
    "empty messages": frame(TEXT) * MANY,
}


@pytest.mark.parametrize("name", FLOODS)
def test_frames_that_hold_nothing_end_the_session(name: str, door: Door) -> None:
    with session(door) as connection:
        connection.sendall(FLOODS[name])
        code, reason = closed_with(read(connection))
    assert (code, reason) == (1008, websocket_connection.TOO_MANY_TINY.encode())


def test_some_pings_are_answered_and_the_session_goes_on(door: Door) -> None:
    with session(door) as connection:
        connection.sendall(frame(PING, b"here") * 300 + frame(TEXT, b'{"type": "session.update"}'))
        assert read(connection, b"session.updated").count(b"\x8a\x04here") == 300


def test_a_message_in_many_parts_and_those_behind_it_are_all_taken(door: Door) -> None:
    update = b'{"type": "session.update", "session": {"type": "realtime", "instructions": "%b"}}'
    text = update % (b"x" * 20_000)
    parts = [text[start : start + 100] for start in range(0, len(text), 100)]
    frames = [frame(CONTINUED, part, False) for part in parts]
    frames[0] = frame(TEXT, parts[0], False)
    last = frame(TEXT, b'{"type": "input_audio_buffer.clear"}')
    with session(door) as connection:
        connection.sendall(b"".join(frames) + frame(CONTINUED) + frame(TEXT, update % b"y") * 20 + last)
        found = read(connection, b"input_audio_buffer.cleared")
    assert found.count(b"session.updated") == 21


@pytest.mark.parametrize("parts", [1, 2])
def test_text_that_is_no_utf8_ends_the_session_and_leaves_no_traceback(
    parts: int, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [frame(TEXT, b"\xff\xfe")] if parts == 1 else [frame(TEXT, b"a", False), frame(CONTINUED, b"\xff")]
    with caplog.at_level(logging.ERROR), session(door) as connection:
        connection.sendall(b"".join(bad))
        assert closed_with(read(connection)) == (1007, b"a text message is not UTF-8")
    assert not caplog.records


@pytest.mark.parametrize("extra", [b"X: y\r\n" * 200, b"X: " + b"y" * 9000 + b"\r\n"], ids=["many", "long"])
def test_a_handshake_with_too_many_headers_is_answered(extra: bytes, door: Door) -> None:
    with socket.create_connection((HOST, door.ports.http), timeout=30) as connection:
        connection.sendall(UPGRADE + extra + b"\r\n")
        assert read(connection).startswith(b"HTTP/1.1 431 ")


def test_what_still_comes_after_the_end_is_not_kept(door: Door) -> None:
    """The door is in this process: what it kept would be seen in its size."""
    block = frame(PING) * 100_000
    size, sent = resident_bytes(), 0
    with session(door) as connection, suppress(OSError):  # the server closes at last
        while sent < MOST_AFTER_THE_END:
            connection.sendall(block)
            sent += len(block)
    assert sent > MOST_AFTER_THE_END // 8
    assert resident_bytes() - size < sent // 2


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_the_door_answers_others_meanwhile(door: Door) -> None:
    with session(door) as connection:
        connection.sendall(FLOODS["pings"] * 10)
        with urlopen(f"http://{HOST}:{door.ports.http}/v2/health/live", timeout=5) as answer:
            assert answer.status == 200
