"""Measures what the OpenAI API costs against gRPC, and a large clip the door's loop: `python -m perf.openai_cost`.

Starts a server on engines/cpu (or --engines) with its door in this process, to read the loop's processor time.
First token: one client asks the same question about the same clip over gRPC, KServe HTTP and the OpenAI API, in an
order that changes each round. Each round has a new clip, which is asked about once beforehand, so only the protocol
differs. Connections stay open. Loop time: processor seconds of the event loop's thread, from before the upload of a
clip to the end of its answer. Pause: the longest time in which that loop did nothing else meanwhile, whichever thread
held the interpreter.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import io
import json
import statistics
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2_grpc

from serving.address import Ports, claim
from serving.door import generate_request
from serving.door.door import Door, TritonAddress
from serving.host.probe import answers
from serving.host.triton import REPOSITORY, Server

HOST = "127.0.0.1"
QUESTION = "What do you hear?"
TOKENS = 4
CHAT = "/v1/chat/completions"
GENERATE = "/v2/models/audio_flamingo/generate_stream"


def clip(seconds: float, seed: int) -> bytes:
    """Make a WAV file of noise; each seed gives another."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        noise = np.random.default_rng(seed).integers(-3000, 3000, round(seconds * 16_000))
        writer.writeframes(noise.astype("<i2").tobytes())
    return file.getvalue()


def chat_body(data: bytes, stream: bool) -> bytes:
    audio = {"data": base64.b64encode(data).decode(), "format": "wav"}
    content = [{"type": "input_audio", "input_audio": audio}, {"type": "text", "text": QUESTION}]
    messages = [{"role": "user", "content": content}]
    return json.dumps(
        {"model": "audio_flamingo", "messages": messages, "max_tokens": TOKENS, "stream": stream}
    ).encode()


class Clients:
    """One client per protocol, each with a connection that stays open."""

    def __init__(self, door: Door):
        self._channel = grpc.insecure_channel(door.url)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._http = http.client.HTTPConnection(HOST, door.ports.http, timeout=120)

    def grpc(self, data: bytes) -> float:
        """Seconds to the first text."""
        request, _ = generate_request.to_request(
            "audio_flamingo", {"audio": data, "prompt": QUESTION, "max_tokens": TOKENS}
        )
        began_s, first_s = time.perf_counter(), None
        for _ in self._stub.ModelStreamInfer(iter([request.whole()])):
            first_s = first_s or time.perf_counter() - began_s
        assert first_s is not None
        return first_s

    def kserve(self, data: bytes) -> float:
        uri = "data:;base64," + base64.b64encode(data).decode()
        body = json.dumps({"audio": uri, "prompt": QUESTION, "max_tokens": TOKENS}).encode()
        return self._first_event(GENERATE, body)

    def openai(self, data: bytes) -> float:
        return self._first_event(CHAT, chat_body(data, stream=True))

    def _first_event(self, path: str, body: bytes) -> float:
        began_s = time.perf_counter()
        self._http.request("POST", path, body, {"content-type": "application/json"})
        reply = self._http.getresponse()
        assert reply.status == 200, reply.read()
        reply.readline()
        first_s = time.perf_counter() - began_s
        reply.read()
        return first_s


def first_tokens(door: Door, rounds: int) -> dict[str, list[float]]:
    """Measure seconds to the first text by protocol."""
    clients = Clients(door)
    asks: list[Callable[[bytes], float]] = [clients.grpc, clients.kserve, clients.openai]
    found: dict[str, list[float]] = {ask.__name__: [] for ask in asks}
    for turn in range(rounds + 3):
        data = clip(1.0, turn)
        clients.grpc(data)
        order = asks[turn % 3 :] + asks[: turn % 3]
        for ask in order if turn % 2 else order[::-1]:
            seconds = ask(data)
            if turn >= 3:  # the first rounds are the warm-up
                found[ask.__name__].append(seconds)
    return found


class Pulse:
    """Beats every millisecond in the door's loop; `longest_s` is the longest time between two beats."""

    def __init__(self, door: Door):
        self.longest_s = 0.0
        self._loop = door._loop
        self._task = asyncio.run_coroutine_threadsafe(self._beat(), self._loop)

    async def _beat(self) -> None:
        before_s = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            now_s = time.monotonic()
            self.longest_s, before_s = max(self.longest_s, now_s - before_s), now_s

    def stop(self) -> float:
        self._task.cancel()
        return self.longest_s


def loop_times(door: Door, megabytes: int, times: int) -> tuple[list[float], list[float]]:
    """Processor seconds of the door's loop for a clip of so many megabytes, sent as JSON, and its longest pauses.

    The server refuses the clip after it has decoded the base64: it is longer than a clip may be, so the model costs
    nothing here. Every other clip is sent without a pulse, which costs time itself, and read for the first.
    """

    async def used_s() -> float:
        return time.thread_time()

    def used() -> float:
        return asyncio.run_coroutine_threadsafe(used_s(), door._loop).result(10)

    body = chat_body(clip(megabytes * 2**20 / 32_000, 1), stream=False)
    found, pauses = [], []
    for turn in range(2 * times):
        pulse = Pulse(door) if turn % 2 else None
        connection = http.client.HTTPConnection(HOST, door.ports.http, timeout=120)
        before_s = used()
        connection.request("POST", CHAT, body, {"content-type": "application/json"})
        connection.getresponse().read()
        if pulse is None:
            found.append(used() - before_s)
        else:
            pauses.append(pulse.stop())
        connection.close()
    return found, pauses


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", type=Path, default=REPOSITORY / "engines" / "cpu")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--megabytes", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "engines").mkdir()
        (folder / "engines" / "cpu").symlink_to(arguments.engines.absolute())
        with Server("cpu", folder, folder / "server.log", Ports(0, 0, 0)) as triton:
            triton.wait_until(lambda: answers(triton.url), timeout_s=120)
            with Door(TritonAddress(triton.ports, ""), HOST, claim(Ports(0, 0, 0), HOST)) as door:
                door.admission.ready = True
                found = first_tokens(door, arguments.rounds)
                loops, pauses = loop_times(door, arguments.megabytes, 10)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    later = [ours - theirs for ours, theirs in zip(found["openai"], found["grpc"], strict=True)]
    for name, seconds in medians.items():
        spread = f"{min(found[name]) * 1000:.1f}–{max(found[name]) * 1000:.1f}"
        print(f"first text over {name:7} {seconds * 1000:6.2f} ms ({spread})")
    print(f"OpenAI later than gRPC, median of {len(later)} pairs: {statistics.median(later) * 1000:.2f} ms")
    print(
        f"loop time of a clip of {arguments.megabytes} MB: median {statistics.median(loops) * 1000:.1f} ms"
        f" ({min(loops) * 1000:.1f}–{max(loops) * 1000:.1f}); its longest pause: median"
        f" {statistics.median(pauses) * 1000:.1f} ms ({min(pauses) * 1000:.1f}–{max(pauses) * 1000:.1f})"
    )


if __name__ == "__main__":
    main()
