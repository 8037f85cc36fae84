"""Numbered byte strings for the HTTP port: heads, bodies, JSON, protobuf and WebSocket frames, broken in every way.

The same number is the same bytes. What must hold: a reply of a client's fault, or a closed connection; never 5xx but a
full server's, nothing of our insides, and the next request is answered.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from tests.fuzz.run import INSIDES, Result
from tests.support.clips import clip

REPLY_S = 10.0
GENERATE = "/v2/models/audio_flamingo/generate"
CHAT = "/v1/chat/completions"
PATHS = (
    GENERATE,
    f"{GENERATE}_stream",
    CHAT,
    "/v1/audio/transcriptions",
    "/v1/audio/speech",
    "/v1/realtime",
    "/",
)
ODD = (
    b"\0",
    b"\xff",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b":",
    b" ",
    b"\t",
    b"%",
    b'"',
    b"\\",
    b"\x80\x81",
    b"9" * 40,
)
CODE = re.compile(rb"^HTTP/1\.[01] (\d{3})")
EVENTS = (
    "session.update",
    "response.create",
    "input_audio_buffer.append",
    "conversation.item.create",
    "",
    "x",
)


@dataclass(frozen=True)
class Bytes:
    number: int
    kind: str
    data: bytes


def raw_case(number: int) -> Bytes:
    random = Random(~number)
    kind, make = random.choice(KINDS)
    return Bytes(number, kind, make(random))


def run_raw(host: str, port: int, numbers: Iterable[int]) -> Result:
    """Each on a connection of its own."""
    result = Result()
    for number in numbers:
        case, began = raw_case(number), time.monotonic()
        status, said = _send(host, port, case.data)
        result.counts[case.kind, status] += 1
        seconds = time.monotonic() - began
        if seconds > result.slowest_s:
            result.slowest_s, result.slowest = seconds, number
        why = None
        if status[:1] == "5" and status not in ("501", "503", "505"):
            why = f"status {status}"
        elif status == "hung":
            why = f"no end within {REPLY_S:g} s"
        elif INSIDES.search(said):
            why = "tells of our insides"
        if why is not None:
            result.wrong.append(f"raw case {number} ({case.kind}): {why}: {said[:300]!r}")
    return result


def _send(host: str, port: int, data: bytes) -> tuple[str, str]:
    """The reply's code, "closed" for none, "hung" when the connection stayed open without a reply."""
    found = b""
    with socket.create_connection((host, port), timeout=REPLY_S) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while len(found) < 1 << 20 and (block := connection.recv(65536)):
                found += block
        except TimeoutError:
            if not found:
                return "hung", ""
        except OSError:
            pass
    code = CODE.match(found.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))
    text = found.partition(b"\r\n\r\n")[2].decode(errors="replace")
    return (code[1].decode() if code else "closed"), text


def _head(length: int, path: str, *more: str) -> bytes:
    return "\r\n".join(
        [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *more, "", ""]
    ).encode()


def _mutated(random: Random, data: bytes) -> bytes:
    """A few bytes changed, taken away, doubled or put in."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        place = random.randrange(len(found) + 1)
        match random.randrange(4):
            case 0 if place < len(found):
                found[place] = random.randrange(256)
            case 1:
                del found[place : place + random.choice((1, 2, 10, 100))]
            case 2:
                found[place:place] = found[place : place + random.choice((1, 10, 200))]
            case _:
                found[place:place] = random.choice(ODD)
    return bytes(found)


def _question(random: Random) -> dict[str, object]:
    audio = base64.b64encode(clip(0.1, seed=random.randrange(4))).decode()
    plain = {"prompt": "What?", "max_tokens": 1, "audio": audio, "id": "x"}
    part = {"type": "input_audio", "input_audio": {"data": audio, "format": "wav"}}
    chat = {"model": "audio_flamingo", "max_tokens": 1, "messages": [{"role": "user", "content": [part]}]}
    return random.choice((plain, chat))


def _http(random: Random) -> bytes:
    body = json.dumps(_question(random)).encode()
    return _mutated(random, _head(len(body), random.choice(PATHS), "Connection: close")[:-2] + b"\r\n") + body


def _json(random: Random) -> bytes:
    """A right head before a body that is broken as text."""
    body = _mutated(random, json.dumps(_question(random)).encode())
    return (
        _head(len(body), random.choice(PATHS[:5]), "Content-Type: application/json", "Connection: close")
        + body
    )


def _values(random: Random) -> bytes:
    """Right JSON whose values are of any kind."""
    odd = (
        None,
        True,
        0,
        -1,
        1e300,
        2**70,
        "",
        "\ud800",
        "x" * 70_000,
        [],
        [[]],
        {},
        {"a": {"a": {}}},
        ["x"] * 300,
    )
    body = _question(random)
    for key in random.sample(sorted(body), random.randrange(1, len(body) + 1)):
        body[key] = random.choice(odd)
    body[random.choice(("top_p", "stop", "tools", "n", "stream", "timeout", "\0", "é" * 99))] = random.choice(
        odd
    )
    raw = json.dumps(body).encode()
    return _head(len(raw), random.choice(PATHS[:5]), "Connection: close") + raw


def _form(random: Random) -> bytes:
    """multipart/form-data, as transcriptions send it."""
    line = b"--b\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n"
    parts = line % (b'"model"', b"audio_flamingo") + line % (b'"file"; filename="a.wav"', clip(0.1))
    body = _mutated(random, parts + b"--b--\r\n")
    kind = "Content-Type: multipart/form-data; boundary=b"
    return _head(len(body), "/v1/audio/transcriptions", kind, "Connection: close") + body


def _chunks(random: Random) -> bytes:
    body = json.dumps(_question(random)).encode()
    chunked = b"".join(
        b"%x\r\n%s\r\n" % (len(body[at : at + 99]), body[at : at + 99]) for at in range(0, len(body), 99)
    )
    head = _head(0, GENERATE, "Connection: close").replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    return head + _mutated(random, chunked + b"0\r\n\r\n")


def _grpc(random: Random) -> bytes:
    """What a gRPC client would send, on the wrong port."""
    return _mutated(
        random, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) + random.randbytes(random.randrange(200))
    )


def _frames(random: Random) -> bytes:
    """A WebSocket that opens well, and then frames: events, half events, noise, wrong lengths and opcodes."""
    upgrade = ["GET /v1/realtime HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket"]
    upgrade += [
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: " + base64.b64encode(bytes(16)).decode(),
        "",
        "",
    ]
    data = b""
    for _ in range(random.randrange(1, 6)):
        event = {
            "type": random.choice(EVENTS),
            "audio": "AAAA" * random.randrange(99),
            "session": {"type": "realtime"},
        }
        payload = _mutated(random, json.dumps(event).encode())
        opcode = random.choice((0x81, 0x81, 0x81, 0x82, 0x01, 0x80, 0x88, 0x89, 0x8A, 0x83, 0xF1))
        length = random.choice((len(payload), len(payload), random.randrange(1 << 16)))
        data += (
            bytes([opcode, 0x80 | 126]) + struct.pack("!H", length) + bytes(4) + payload
        )  # a mask of zeros
    close = b"\x88\x80" + bytes(4)
    return "\r\n".join(upgrade).encode() + (_mutated(random, data) if random.random() < 0.5 else data) + close


KINDS: tuple[tuple[str, Callable[[Random], bytes]], ...] = (
    ("HTTP bytes", _http),
    ("JSON bytes", _json),
    ("JSON values", _values),
    ("form", _form),
    ("chunks", _chunks),
    ("HTTP/2 on HTTP/1", _grpc),
    ("WebSocket frames", _frames),
)
