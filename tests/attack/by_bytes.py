"""Attacks by what is sent: bodies, ids, heads and messages that are wrong, huge or crafted."""

from __future__ import annotations

import json
import socket
from contextlib import suppress

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.attack.scene import Attack, Scene, at_once, generate, head, to_the_end
from tests.support import scrape
from tests.support.wire import Refused, Stream

OWN = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]


def _post(scene: Scene, body: bytes, *more: str) -> bytes:
    """The reply, b"" when the connection was broken off."""
    with scene.connect() as connection:
        with suppress(OSError):
            connection.sendall(
                head(len(body), "/v2/models/audio_flamingo/generate", *more, "Connection: close")
            )
            connection.sendall(body)
        return to_the_end(connection)


def _code(reply: bytes) -> int:
    return int(reply[9:12]) if reply.startswith(b"HTTP/1.1 ") else 0


def half_surrogates(scene: Scene) -> str:
    for number in range(80):
        more = b',"prompt":"?"' if number % 2 else b""  # refused at the door, or asked by one that has left
        body = b'{"id":"\\ud800%d"%b}' % (number, more)
        with scene.connect() as connection:
            connection.sendall(head(len(body)) + body)
    scrape.wait_until(lambda: scene.in_flight() <= 2, 30)
    return "80 sent, no slot lost"


def many_inputs(scene: Scene) -> str:
    request = service_pb2.ModelInferRequest(model_name="audio_flamingo")
    for number in range(200_000):
        request.inputs.add(name=f"i{number}")
    with grpc.insecure_channel(scene.server.url, OWN) as channel:
        for _ in range(scene.count(10, 3)):
            try:
                service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)
                raise AssertionError("answered")
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
    return "200 000 inputs: INVALID_ARGUMENT"


def stolen_ids(scene: Scene) -> str:
    """A victim's id, and ids that a C string would cut to it, in use by others that leave."""
    victim = Stream(
        scene.server.url, prompt="What is it?", parameters={"max_tokens": 60}, request_id="victim"
    )
    for number in range(8):
        other = Stream(
            scene.server.url, prompt="?", parameters={"max_tokens": 60}, request_id=f"victim\0{number}"
        )
        other.cancel()
    got = "".join(result.as_numpy("text")[0].decode() for result in victim.results())
    alone = Stream(scene.server.url, prompt="What is it?", parameters={"max_tokens": 60}, request_id="alone")
    assert got == "".join(result.as_numpy("text")[0].decode() for result in alone.results())
    doubled = b'{"prompt":"?","id":"x","id":"victim\\u0000k"}'
    assert _code(_post(scene, doubled)) == 400
    return "the victim's answer is whole; a key that stands twice is refused"


def heavy_json(scene: Scene) -> str:
    size = scene.count(48, 16) << 20
    bodies = {
        "nested lists": b'{"id":"j","x":[' + b"[]," * (size // 3) + b"[]]}",
        "short keys": b"{" + b",".join(b'"%x":1' % number for number in range(size // 10)) + b"}",
        "depth": b'{"x":' + b"[" * 100_000,
        "digits": b'{"seed":' + b"9" * 5000 + b"}",
        "spaces": b" " * size,
        "strings": b'{"x":[' + b",".join([b'"' + b"a" * 15_000 + b'"'] * (size // 15_003)) + b"]}",
        "one number": b'{"x":' + b"1" * size + b"}",
    }
    codes = {name: _code(_post(scene, body)) for name, body in bodies.items()}
    assert set(codes.values()) == {400}, codes
    return f"{size >> 20} MB each: 400 to all"


def long_texts(scene: Scene) -> str:
    """A tokenizer takes 200 bytes of memory and 2 µs for each byte of a text."""
    size = scene.count(100, 16) << 20
    text = "the quick brown fox " * (size // 20)
    turns = json.dumps([{"role": "user", "content": text}])
    refused = []
    for words in ({"prompt": text}, {"messages": turns}):
        try:
            list(Stream(scene.server.url, **words))
        except Refused as error:
            refused.append(error.status)
    bodies = [{"prompt": text}, {"messages": turns}, {"messages": json.loads(turns)}]
    refused += [_code(_post(scene, json.dumps(body).encode())) for body in bodies]
    assert refused == ["INVALID_ARGUMENT"] * 2 + [400] * 3, refused
    return f"{size >> 20} MB as a prompt and as messages, over gRPC and HTTP: refused"


def false_labels(scene: Scene) -> str:
    before = len(scrape.samples(scene.server.metrics))

    def ask(number: int) -> None:
        with suppress(Refused):
            stream = Stream(
                scene.server.url, prompt="?", parameters={"top_p": 9.0}, request_id=f"x] HACKED{number}: "
            )
            list(stream.results())

    at_once(scene.count(1000, 100), ask, 8)
    after = len(scrape.samples(scene.server.metrics))
    assert after <= before + 60, (before, after)
    return f"{before} → {after} series of /metrics"


def private_memory(scene: Scene) -> str:
    modes = {found.st_mode & 0o077 for found in scene.server.shared_stats()}
    assert modes == {0}, modes
    return "all files of /dev/shm 0600"


def web_pages(scene: Scene) -> str:
    body = json.dumps({"prompt": "?", "max_tokens": 1}).encode()
    for origin in ("http://evil.example", "null", f"http://evil.example:{scene.port}"):
        assert _code(_post(scene, body, f"Origin: {origin}")) == 403
    return "403 to every page that was not named"


def stop_flood(scene: Scene) -> str:
    stop = service_pb2.ModelInferRequest(model_name="tts", id="victim")
    stop.inputs.add(name="stop", datatype="BOOL", shape=[1])
    stop.raw_input_contents.append(b"\x01")
    count = scene.count(20_000, 2_000)
    with grpc.insecure_channel(scene.server.url, OWN) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        seen = sum(1 for _ in stub.ModelStreamInfer((stop for _ in range(count)), timeout=120))
    assert seen == count
    return f"{count} stops of another's speech: none reached Triton"


def odd_http(scene: Scene) -> str:
    body = b'{"prompt":"?","max_tokens":1}'
    generate_head = head(len(body), "/v2/models/audio_flamingo/generate")
    trailing = _raw(scene, generate_head + body + b"\r\n")
    assert _code(trailing) == 200, trailing[:80]
    chunked = head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    piece = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert _code(_raw(scene, chunked + piece)) == 200
    assert (
        _code(_raw(scene, b"HEAD /v2/health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == 200
    )
    assert _code(_raw(scene, head(0).replace(b": 0", b": " + b"9" * 5000))) == 400
    assert _code(_raw(scene, b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n")) == 400
    assert _code(_raw(scene, b"\x16\x03\x01" + bytes(200))) == 400
    with scene.connect(timeout_s=30) as connection:
        connection.sendall(generate_head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert connection.recv(64).startswith(b"HTTP/1.1 100")
    return "CRLF, chunks, HEAD, huge lengths and heads, TLS bytes, Expect: each has its reply"


def _raw(scene: Scene, data: bytes) -> bytes:
    with scene.connect(timeout_s=30) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return to_the_end(connection)


def health_service(scene: Scene) -> str:
    with grpc.insecure_channel(scene.server.url, OWN) as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10) == b"\x08\x01"
    assert generate(scene)[0] == 200
    return "grpc.health.v1 answers"


ATTACKS = [
    Attack("half surrogate ids", "1", half_surrogates),
    Attack("200 000 inputs", "3", many_inputs),
    Attack("stolen ids", "7", stolen_ids),
    Attack("heavy JSON", "8c, 9", heavy_json),
    Attack("long texts", "own", long_texts),
    Attack("false metric labels", "12", false_labels),
    Attack("private shared memory", "13", private_memory),
    Attack("web pages", "15", web_pages),
    Attack("flood of stops", "16", stop_flood),
    Attack("odd HTTP", "22, 23", odd_http),
    Attack("standard health", "24", health_service),
]
