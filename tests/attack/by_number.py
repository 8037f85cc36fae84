"""Attacks by how many: connections, streams, uploads, clients that do not read or leave, one that asks for all."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import ExitStack, suppress
from queue import Queue
from typing import Any

import grpc

from serving.host.probe import health
from tests.attack.scene import PATIENCE_S, STRANGER, Attack, Scene, at_once, generate, head, to_the_end
from tests.support import scrape
from tests.support.raw_grpc import RawGrpc
from tests.support.wire import Refused, Stream, ask

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
OWN = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
UPLOAD_BYTES = 108 << 20
QUESTION = json.dumps({"prompt": "What is it?", "max_tokens": 400}).encode()


def idle_connections(scene: Scene) -> str:
    """Half of them to HTTP, without a byte; half to gRPC, each with a stream on which nothing is asked."""
    count = scene.count(2000, 1100)
    with ExitStack() as stack:
        for number in range(count):
            with suppress(OSError, EOFError):
                if number % 2:
                    stack.enter_context(RawGrpc(scene.server.url, STRANGER, 5)).call(STREAM)
                else:
                    stack.enter_context(scene.connect(timeout_s=5))
        for _ in range(3):
            assert generate(scene)[0] == 200
        assert health(scene.server.url, 15) in ("answers", "busy")
        scrape.wait_until(lambda: _grpc_answers(scene), 10)
    assert scene.server.process.poll() is None
    return f"{count} held, half to each port; probe and honest requests, HTTP and gRPC, are answered"


def _grpc_answers(scene: Scene) -> bool:
    try:
        return bool(ask(scene.server.url, prompt="What is it?", parameters={"max_tokens": 2}))
    except Refused:
        return False


def half_messages(scene: Scene) -> str:
    """Messages over gRPC that never come whole: the library keeps what has come of each."""
    size, before = 110 << 20, scene.resident_mb()
    peak, sent = [before], [0]
    with ExitStack() as stack:
        lock = threading.Lock()

        def send(number: int) -> None:
            with suppress(OSError, EOFError):
                connection = RawGrpc(scene.server.url, f"127.0.7.{number + 1}", PATIENCE_S)
                with lock:
                    stack.enter_context(connection)
                taken = connection.send_part(connection.call(STREAM), size, size - 1)
                with lock:
                    sent[0] += taken
                    peak.append(scene.resident_mb())

        at_once(scene.count(64, 16), send, 16)
        assert generate(scene)[0] == 200
    allowed = before + 2.5 * 1024  # --max-upload-mb, and what comes within a look
    assert max(peak) < allowed, f"{max(peak):.0f} MB"
    return f"{sent[0] >> 20} MB of messages begun: door {before:.0f} → {max(peak):.0f} MB"


def idle_streams(scene: Scene) -> str:
    done = threading.Event()

    def nothing() -> Any:
        done.wait()
        yield from ()

    with ExitStack() as stack:
        calls = []
        for _ in range(scene.count(8, 2)):
            channel = stack.enter_context(grpc.insecure_channel(scene.server.url, OWN))
            calls += [channel.stream_stream(STREAM)(nothing()) for _ in range(250)]
        assert health(scene.server.url, 15) in ("answers", "busy")
        assert generate(scene)[0] == 200
        done.set()
        for call in calls:
            call.cancel()
    return f"{len(calls)} idle streams; gRPC goes on"


def leave_at_random(scene: Scene) -> str:
    chance, count = random.Random(7), scene.count(1000, 150)

    def ask(number: int) -> None:
        with suppress(OSError), scene.connect(f"127.0.2.{number % 100 + 1}") as connection:
            whole = head(len(QUESTION)) + QUESTION
            connection.sendall(
                whole[: chance.choice((20, len(whole) - 5, len(whole), len(whole), len(whole)))]
            )
            connection.settimeout(chance.choice((0.001, 0.05, 0.3, 1.0)))
            connection.recv(64)

    at_once(count, ask, 32)
    began = time.monotonic()
    scrape.wait_until(lambda: scene.in_flight() <= 2, 60)
    return f"{count} left; all slots free {time.monotonic() - began:.1f} s after the last"


def large_uploads(scene: Scene) -> str:
    body = b" " * UPLOAD_BYTES
    codes: Queue[int] = Queue()
    peak, done = [scene.resident_mb()], threading.Event()
    before = peak[0]

    def watch() -> None:
        while not done.wait(0.2):
            peak.append(scene.resident_mb())

    def upload(number: int) -> None:
        reply = b""
        with suppress(OSError), scene.connect(f"127.0.3.{number + 1}") as connection:
            connection.sendall(head(len(body), "/v2/models/audio_flamingo/generate", "Connection: close"))
            with suppress(OSError):
                connection.sendall(body)
            reply = to_the_end(connection)
        codes.put(int(reply[9:12]) if reply else 0)

    watching = threading.Thread(target=watch)
    watching.start()
    count = scene.count(64, 16)
    at_once(count, upload, 64)
    done.set()
    watching.join()
    found = sorted(codes.queue)
    bound = before + 4 * 1024
    assert max(peak) < bound, f"{max(peak):.0f} MB"
    assert set(found) <= {400, 503}, found
    grown = f"door {before:.0f} → {max(peak):.0f} MB"
    return f"{count} × 108 MB: {found.count(400)} read, {found.count(503)} told to wait; {grown}"


def silent_uploads(scene: Scene) -> str:
    before = scene.resident_mb()
    with ExitStack() as stack:
        for number in range(scene.count(300, 100)):
            with suppress(OSError):
                connection = stack.enter_context(scene.connect(f"127.0.4.{number % 200 + 1}"))
                connection.sendall(head(128 << 20) + b" " * (5 << 20))
        during = scene.resident_mb()
        assert generate(scene)[0] == 200
    assert during < before + 1500, during
    return f"door {before:.0f} → {during:.0f} MB while held"


def unfair_client(scene: Scene) -> str:
    """One address keeps the server full; another asks once at a time, and has a right to half of the server."""
    stopping, count = threading.Event(), scene.count(1000, 200)
    asked, flood_s = [0], []

    def flood() -> None:
        while not stopping.is_set() and asked[0] < count:
            asked[0] += 1
            began = time.monotonic()
            if generate(scene, "What is it?", 120, STRANGER)[0] == 200:
                flood_s.append(time.monotonic() - began)

    threads = [threading.Thread(target=flood) for _ in range(64)]
    quiet_s = sorted(_timed(scene) for _ in range(5))[2]
    for thread in threads:
        thread.start()
    loaded_s = []
    try:
        scrape.wait_until(lambda: scene.in_flight() > 30, 60)
        while len(loaded_s) < 5 and any(thread.is_alive() for thread in threads):
            loaded_s.append(_timed(scene))  # an AssertionError where it is refused
    finally:
        stopping.set()
        for thread in threads:
            thread.join(120)
    usual_s = sorted(flood_s)[len(flood_s) // 2]
    assert max(loaded_s) <= usual_s / 2, (loaded_s, usual_s)
    return (
        f"the one: {quiet_s:.2f} s quiet, {max(loaded_s):.2f} s beside another's {asked[0]} of {usual_s:.2f} s each;"
        " never refused"
    )


def _timed(scene: Scene) -> float:
    began = time.monotonic()
    assert generate(scene)[0] == 200
    return time.monotonic() - began


def random_requests(scene: Scene) -> str:
    prompts = [(f"What is it? {number}", 4 + number % 13) for number in range(40)]
    idle = [generate(scene, prompt, tokens) for prompt, tokens in prompts]
    wrong: list[str] = []

    def ask(number: int) -> None:
        place = random.Random(number).randrange(len(prompts))
        prompt, tokens = prompts[place]
        if number % 2:
            found = generate(scene, prompt, tokens, f"127.0.5.{number % 100 + 1}")
        else:
            try:
                stream = Stream(scene.server.url, prompt=prompt, parameters={"max_tokens": tokens})
                text = "".join(result.as_numpy("text")[0].decode() for result in stream.results())
                found = (200, text)
            except Refused as error:
                found = (503, str(error))
        if found != idle[place] and found[0] != 503:
            wrong.append(f"{prompt}: {found} instead of {idle[place]}")

    count = scene.count(10_000, 600)
    at_once(count, ask, 32)
    assert not wrong, wrong[:3]
    return f"{count}, 32 at a time, over gRPC and HTTP: 0 differ from the idle server's"


ATTACKS = [
    Attack("idle connections at 1024 handles", "2", idle_connections, file_handles=1024),
    Attack("idle streams", "5", idle_streams),
    Attack("clients that leave at random", "table", leave_at_random),
    Attack("half messages over gRPC", "8a", half_messages, quick=False),
    Attack("64 uploads of 108 MB", "4, 8", large_uploads),
    Attack("300 silent uploads", "8b", silent_uploads),
    Attack("the unfair client", "table", unfair_client),
    Attack("random requests", "table", random_requests),
]
