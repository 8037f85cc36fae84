"""Attacks by what takes long: clients that never read, and a clip that the encoder needs minutes for."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from queue import Queue
from typing import Any

import grpc
import numpy as np
import soundfile
from tritonclient.grpc import service_pb2_grpc
from websockets.sync.client import connect

from af3.inputs import ffmpeg
from clients import AudioFlamingo
from tests.attack.scene import STRANGER, Attack, Scene, generate, head
from tests.support import scrape
from tests.support.clips import clip
from tests.support.wire import Stream, _bytes_input, _request

CLIENTS = 64
SESSIONS = 24
HONESTS = 2  # requests of the honest clients at any moment
FREE_S = 2.0
QUESTION = json.dumps({"prompt": "What is it?", "max_tokens": 400}).encode()
SPOKEN_TOKENS = (
    60  # of random weights: ten seconds and more of speech, four times what is kept of an answer unread
)
OWN = [("grpc.use_local_subchannel_pool", 1)]
WINDOW_S = 20.0
STALL_S = 30.0  # after which silence is a hang, were there no heartbeats
HANG_S = 300.0  # the same while others are answered
LONG_S, LONG_HZ = 590, 44_100
MANY = 150  # of them 200 KB


@contextmanager
def over_http(scene: Scene) -> Iterator[None]:
    """Long texts."""
    with ExitStack() as stack:
        for number in range(CLIENTS):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.bind((f"127.0.1.{number % 8 + 1}", 0))
            connection.connect((scene.host, scene.port))
            connection.sendall(head(len(QUESTION)) + QUESTION)
        yield


@contextmanager
def over_grpc(scene: Scene) -> Iterator[None]:
    """Spoken answers, all on one connection."""
    with grpc.insecure_channel(scene.server.url, OWN) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        asked: Queue[Any] = Queue()  # nothing comes: the streams stay open
        calls = []
        for number in range(CLIENTS):
            request = _request(
                "audio_flamingo_speech",
                [_bytes_input("prompt", [b"What is it?"])],
                str(number),
                {"max_tokens": SPOKEN_TOKENS},
            )
            calls.append(stub.ModelStreamInfer(_first(request, asked)))
        yield
        for call in calls:
            call.cancel()
            asked.put(None)


@contextmanager
def over_websocket(scene: Scene) -> Iterator[None]:
    """Spoken answers of sessions, each sent as fast as it is heard."""
    with ExitStack() as stack:
        for number in range(SESSIONS):
            address = (f"127.0.6.{number + 1}", 0)
            socket_ = stack.enter_context(
                connect(
                    f"ws://{scene.host}:{scene.port}/v1/realtime?model=any",
                    max_queue=1,
                    compression=None,
                    ping_interval=None,
                    close_timeout=0.1,
                    source_address=address,
                )
            )
            for event in (
                {
                    "type": "session.update",
                    "session": {"type": "realtime", "max_output_tokens": SPOKEN_TOKENS},
                },
                {"type": "conversation.item.create", "item": _user("What is it?")},
                {"type": "response.create"},
            ):
                socket_.send(json.dumps(event))
        yield


HOLDERS: Mapping[str, Callable[[Scene], Any]] = {
    "texts over HTTP": over_http,
    "speech over gRPC": over_grpc,
    "speech over WebSockets": over_websocket,
}


def never_read(scene: Scene) -> str:
    """A slot is held while there is work for it, and not while its client does not read."""
    held = {name: _held_after_work(scene, holder) for name, holder in HOLDERS.items()}
    said = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in held.items())
    assert max(held.values()) <= FREE_S, said
    return f"slots free after the work's end: {said}"


def _held_after_work(scene: Scene, holder: Callable[[Scene], Any]) -> float:
    """Seconds from the last moment at which the steps had work for these clients until no slot was theirs."""
    with holder(scene):
        scrape.wait_until(lambda: scene.in_flight() > HONESTS + 4, 60)
        worked_s = time.monotonic()
        end_s = worked_s + 180
        while True:
            found, now = scrape.samples(scene.server.metrics), time.monotonic()
            if _at_work(found):
                worked_s = now
            if found["af3_requests_in_flight"] <= HONESTS:
                break
            assert now < end_s, f"{found['af3_requests_in_flight']:g} slots are still held"
            time.sleep(0.1)
        code, said = generate(scene, source=STRANGER)
        assert code == 200, said
    scrape.wait_until(lambda: scene.in_flight() <= HONESTS, 60)
    return now - worked_s


def _at_work(found: Mapping[str, float]) -> bool:
    decoding = found["af3_llm_running"] + found["af3_llm_waiting"]
    return decoding > HONESTS or found["af3_answers_live"] > HONESTS or found["af3_speech_live"] > 0


def _first(request: Any, asked: Queue[Any]) -> Iterator[Any]:
    yield request
    yield from iter(asked.get, None)


def _user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def slow_encoder(scene: Scene) -> str:
    """Longer than any bound for a hang, so that only heartbeats tell it from one; a short clip does not wait for it."""
    before = scene.sample("af3_embedding_cache_misses")
    _leave(scene)
    windows = scene.count(20, 5)
    began, encoded = time.monotonic(), scene.sample("af3_embedding_cache_misses")
    short_s: list[float] = []

    def ask_short() -> None:
        scrape.wait_until(lambda: scene.sample("af3_embedding_cache_misses") > encoded, 180)
        asked = time.monotonic()
        _ask(scene, 0.5)
        short_s.append(time.monotonic() - asked)

    beside = threading.Thread(target=ask_short)
    beside.start()
    assert _ask(scene, 30.0 * windows - 2)
    seconds = time.monotonic() - began
    beside.join(600)
    assert seconds > scene.count(int(HANG_S), int(STALL_S)), f"only {seconds:.0f} s: no hang to be told from"
    window_s = seconds / windows
    assert short_s and short_s[0] < 2.5 * window_s, f"a short clip beside it: {short_s}"
    wasted = scene.sample("af3_embedding_cache_misses") - before - windows - 1
    assert wasted <= 3, f"{wasted:g} windows were encoded of a clip whose client had left"
    return (
        f"{30 * windows} s of sound, {seconds:.0f} s at the encoder: answered; half a second of sound beside it:"
        f" after {short_s[0]:.1f} s; of ten minutes whose client left, {wasted:g} windows of 20 were encoded"
    )


def _leave(scene: Scene) -> None:
    """Ask about ten minutes of sound, and leave when one window is encoded."""
    encoded = scene.sample("af3_embedding_cache_misses")
    stream = Stream(scene.server.url, audio=[clip(598.0, seed=5)], prompt="What is it?")
    scrape.wait_until(lambda: scene.sample("af3_embedding_cache_misses") > encoded, 180)
    stream.cancel()


def _ask(scene: Scene, seconds: float) -> str:
    """Ask about so much sound; returns the finish reason."""
    with AudioFlamingo(scene.server.url) as flamingo:
        answer = flamingo.ask(clip(seconds, seed=99), "What is it?", max_tokens=3, timeout_s=590)
        answer.text()
        return answer.finish_reason


def long_clips(scene: Scene) -> str:
    """A request without a clip does not wait for the decoding of others' long ones."""
    return f"clips of {LONG_S} s: {_beside(scene, [_long_clip()], LONG_S)}"


def many_clips(scene: Scene) -> str:
    """Nor for that of many short ones, for each of which ffmpeg has to start."""
    return f"{MANY} clips of 0.5 s each in AMR: {_beside(scene, [_short_clip()] * MANY, MANY / 2)}"


def _beside(scene: Scene, audio: list[bytes], audio_s: float) -> str:
    """A short question beside requests with so much audio."""
    count = scene.count(12, 6)
    streams = [
        Stream(scene.server.url, audio=audio, prompt="What is it?", parameters={"max_tokens": 1})
        for _ in range(count)
    ]
    try:
        scrape.wait_until(lambda: scene.in_flight() >= count, 60, "not all were taken in")
        before = scene.sample("af3_audio_seconds")
        began = time.monotonic()
        code, said = generate(scene, tokens=1, source=STRANGER)
        seconds = time.monotonic() - began
        decoded = (scene.sample("af3_audio_seconds") - before) / audio_s
    finally:
        for stream in streams:
            stream.cancel()
    assert code == 200, said
    assert decoded < 3, f"answered after {decoded:.0f} of them were decoded"
    return (
        f"{count} requests; a question without a clip: {seconds:.2f} s, in which {decoded:.0f} were decoded"
    )


def _long_clip() -> bytes:
    """FLAC in stereo, whose decoding keeps a core busy for about a second."""
    noise = np.random.default_rng(7).normal(0, 40, LONG_HZ)
    second = (3000 * np.sin(2 * np.pi * 440 * np.arange(LONG_HZ) / LONG_HZ) + noise).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, np.tile(np.stack([second, second // 2], 1), (LONG_S, 1)), LONG_HZ, format="FLAC")
    return file.getvalue()


def _short_clip() -> bytes:
    """AMR, which libsndfile does not read."""
    program = ffmpeg.program()
    assert program is not None
    tone = f"sine=frequency=440:sample_rate=8000:duration={1 / 2}"
    command = [program, "-v", "error", "-f", "lavfi", "-i", tone, "-f", "amr", "pipe:1"]
    return subprocess.run(command, capture_output=True, check=True).stdout


ATTACKS = [
    Attack("long clips of others", "table", long_clips),
    Attack("many clips of others", "own", many_clips),
    Attack("64 clients that never read", "6", never_read),
    Attack("a long clip on a slow encoder", "4", slow_encoder, quick=False, window_s=WINDOW_S),
]
