"""Questions to a cluster, and what its servers say of them."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from af3 import contract
from deploy.cluster import Cluster, Member
from deploy.envoy import HOST
from deploy.loopback import wait_for
from deploy.proxy import WORKERS, Proxy
from perf.fleet_queue import passed_over_above
from tests.support.clips import clip
from tests.support.named_server import NamedServer

HITS, MISSES = "af3_embedding_cache_hits", "af3_embedding_cache_misses"
ANSWERED = 'af3_requests_total{status="OK"}'


def affinity(file: bytes) -> str:
    return hashlib.sha256(file).hexdigest()[:16]


def ask(
    cluster: Cluster | Proxy,
    file: bytes,
    prompt: str = "What is it?",
    key: str | None = None,
    tokens: int = 8,
) -> list[int]:
    """Token ids of the answer, over gRPC through Envoy. Raises grpc.RpcError."""
    request = service_pb2.ModelInferRequest(model_name="audio_flamingo")
    for name, element in ((contract.AUDIO.name, file), (contract.PROMPT.name, prompt.encode())):
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(len(element).to_bytes(4, "little") + element)
    request.id = hashlib.sha256(f"{prompt}{time.monotonic_ns()}".encode()).hexdigest()[:32]
    request.parameters["max_tokens"].int64_param = tokens
    metadata = (("x-af3-affinity", key or affinity(file)), ("triton_grpc_error", "true"))
    found: list[int] = []
    with grpc.insecure_channel(f"{HOST}:{cluster.ports.grpc}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for reply in stub.ModelStreamInfer(iter([request]), metadata=metadata, timeout=60):
            if reply.error_message:
                raise AssertionError(reply.error_message)
            outputs = [output.name for output in reply.infer_response.outputs]
            place = outputs.index(contract.TOKEN_IDS.name)
            data = reply.infer_response.raw_output_contents[place]
            found += memoryview(data).cast("i").tolist()
    return found


def post(
    cluster: Cluster,
    body: Mapping[str, Any],
    query: str = "",
    headers: Mapping[str, str] | None = None,
    path: str = "/v2/models/audio_flamingo/generate",
) -> tuple[int, str, Mapping[str, str]]:
    """Status, body and headers of the reply, over HTTP through Envoy."""
    connection = http.client.HTTPConnection(HOST, cluster.ports.http, timeout=60)
    fields = {"Content-Type": "application/json", **(headers or {})}
    connection.request("POST", path + query, json.dumps(body), fields)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, text, {name.lower(): value for name, value in reply.getheaders()}


def counted(server: Member, name: str) -> float:
    """A counter of its own /metrics; 0 of a server that is gone."""
    try:
        found = server.metrics()
    except (urllib.error.URLError, OSError):
        return 0.0
    return found.get(name, found.get(f"{name}_total", 0.0))


def answered_by(cluster: Cluster, act: Callable[[], object]) -> int:
    """The server that answers the requests of `act`: its counter grows. Nobody else may send meanwhile.

    An open session is a request in flight: `act` opens it.
    """
    assert wait_for(
        cluster.idle, 30
    )  # what is in flight counts against its server, and would send a key elsewhere
    before = [counted(server, ANSWERED) for server in cluster.servers]
    act()
    grown: list[float] = []

    def seen() -> bool:
        now = [counted(server, ANSWERED) for server in cluster.servers]
        grown[:] = [one - old for one, old in zip(now, before, strict=True)]
        return any(grown)

    assert wait_for(seen, 10)
    return grown.index(max(grown))


def most_in_flight(cluster: Cluster, over: Callable[[], bool]) -> list[float]:
    """The most requests that each server had at once, by its own count, polled until `over`."""
    most = [0.0] * len(cluster.servers)
    while not over():
        now = [counted(server, "af3_requests_in_flight") for server in cluster.servers]
        most = [max(pair) for pair in zip(most, now, strict=True)]
        time.sleep(0.05)
    return most


def bound(cluster: Cluster, clients: int) -> int:
    """The most requests of `clients` that Envoy gives to one server once its workers are connected to all of them.

    Each worker may give it one more at the same moment.
    """
    return passed_over_above(clients - 1, len(cluster.servers)) + WORKERS


def leads_elsewhere(place: int, place_of: Callable[[int], int]) -> bool:
    """Whether one of 40 numbered keys has another home: of three servers, chance alone fails one run in 3^39."""
    return any(place_of(number) != place for number in range(40))


def home(cluster: Cluster, key: str) -> int:
    """Which server answers requests of this key."""
    return answered_by(cluster, lambda: ask(cluster, clip(0.3, seed=len(key)), key=key))


@contextmanager
def traffic(
    cluster: Cluster | Proxy,
    clients: int,
    keys: Callable[[int, int], str | None] = lambda number, turn: None,
    tokens: int = 8,
) -> Iterator[list[BaseException | list[int]]]:
    """`clients` that ask one question after another while the block runs; what became of every one.

    keys: client and turn → affinity; by default that of the clip.
    """
    outcomes: list[BaseException | list[int]] = []

    def asks(number: int, over: threading.Event) -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            try:
                file = clip(0.4, seed=100 * number + turn % 7)
                outcomes.append(ask(cluster, file, key=keys(number, turn), tokens=tokens))
            except (grpc.RpcError, AssertionError) as error:
                outcomes.append(error)

    with meanwhile(clients, asks):
        yield outcomes


@contextmanager
def meanwhile(clients: int, asks: Callable[[int, threading.Event], None]) -> Iterator[None]:
    """Call `asks` with the number of each client in a thread of its own while the block runs; the event ends it."""
    over = threading.Event()
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(asks, number, over) for number in range(clients)]
        try:
            yield
        finally:
            over.set()
        for one in running:
            one.result()


@contextmanager
def leading_to(servers: Sequence[NamedServer], proxy: Proxy) -> Iterator[Proxy]:
    """The proxy, started, with these servers behind it."""
    proxy.servers = [one.ports for one in servers]
    with proxy:
        proxy.route_to(proxy.servers)
        yield proxy


def lost(error: grpc.RpcError) -> bool:
    """Ended with its server: UNAVAILABLE, or the reset that Envoy makes of an answer which had begun."""
    reset = error.code() == grpc.StatusCode.INTERNAL and "RST_STREAM" in error.details()
    return reset or error.code() == grpc.StatusCode.UNAVAILABLE


def failures(outcomes: list[BaseException | list[int]]) -> list[BaseException]:
    return [one for one in outcomes if isinstance(one, BaseException)]
