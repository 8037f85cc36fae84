"""Routing through a real Envoy to three real servers: affinity, a killed server, a rolling restart under load."""

import hashlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from af3 import contract
from deploy.cluster import HOST, Cluster, Member, wait_for
from tests.support.clips import clip

HITS, MISSES = "af3_embedding_cache_hits", "af3_embedding_cache_misses"


def affinity(file: bytes) -> str:
    return hashlib.sha256(file).hexdigest()[:16]


def ask(cluster: Cluster, file: bytes, prompt: str = "What is it?", key: str | None = None) -> list[int]:
    """Token ids of the answer, over gRPC through Envoy. Raises grpc.RpcError."""
    request = service_pb2.ModelInferRequest(model_name="audio_flamingo")
    for name, element in ((contract.AUDIO.name, file), (contract.PROMPT.name, prompt.encode())):
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(len(element).to_bytes(4, "little") + element)
    request.id = hashlib.sha256(f"{prompt}{time.monotonic_ns()}".encode()).hexdigest()[:32]
    request.parameters["max_tokens"].int64_param = 8
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


def counted(server: Member, name: str) -> float:
    """A counter of its own /metrics; 0 of a server that is gone."""
    try:
        found = server.metrics()
    except urllib.error.URLError:
        return 0.0
    return found.get(name, found.get(f"{name}_total", 0.0))


def heard(cluster: Cluster) -> list[float]:
    """Windows that each server's encoder, or its cache, has answered for."""
    return [counted(server, MISSES) + counted(server, HITS) for server in cluster.servers]


def home(cluster: Cluster, key: str) -> int:
    """Which server answers requests of this key: the one whose counters grow."""
    before = heard(cluster)
    ask(cluster, clip(0.3, seed=len(key)), key=key)
    grown: list[float] = []

    def seen() -> bool:  # Triton's page of metrics comes a moment after the answer
        grown[:] = [now - old for now, old in zip(heard(cluster), before, strict=True)]
        return any(grown)

    assert wait_for(seen, 10)
    return grown.index(max(grown))


@contextmanager
def traffic(cluster: Cluster, clients: int) -> Iterator[list[BaseException | list[int]]]:
    """`clients` that ask one question after another while the block runs; what became of every one."""
    outcomes: list[BaseException | list[int]] = []
    over = threading.Event()

    def asks(number: int) -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            try:
                outcomes.append(ask(cluster, clip(0.4, seed=100 * number + turn % 7)))
            except (grpc.RpcError, AssertionError) as error:
                outcomes.append(error)

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(asks, number) for number in range(clients)]
        try:
            yield outcomes
        finally:
            over.set()
        for one in running:
            one.result()


def lost(error: grpc.RpcError) -> bool:
    """Ended with its server: UNAVAILABLE, or the reset that Envoy makes of an answer which had begun."""
    reset = error.code() == grpc.StatusCode.INTERNAL and "RST_STREAM" in error.details()
    return reset or error.code() == grpc.StatusCode.UNAVAILABLE


def failures(outcomes: list[BaseException | list[int]]) -> list[BaseException]:
    return [one for one in outcomes if isinstance(one, BaseException)]


def test_every_protocol_passes(cluster: Cluster) -> None:
    assert ask(cluster, clip(0.5, seed=1))
    body = json.dumps({"prompt": "Hello", "max_tokens": 4, "id": "1"}).encode()
    path = f"http://{HOST}:{cluster.ports.http}/v2/models/audio_flamingo/generate_stream"
    request = urllib.request.Request(path, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        events = [line for line in reply.read().decode().splitlines() if line.startswith("data:")]
    assert events
    assert json.loads(events[-1][5:])["finish_reason"] in ("stop", "length")


def test_a_clip_asked_about_again_lands_where_it_was_heard(cluster: Cluster) -> None:
    clips = [clip(0.5, seed=1000 + number) for number in range(30)]
    first = [ask(cluster, one) for one in clips]
    heard = [(counted(server, HITS), counted(server, MISSES)) for server in cluster.servers]
    assert sum(missed > 0 for _, missed in heard) == 3  # all three have work
    again = [ask(cluster, one, "And now?") for one in clips]
    hits = sum(counted(server, HITS) - old for server, (old, _) in zip(cluster.servers, heard, strict=True))
    misses = sum(
        counted(server, MISSES) - old for server, (_, old) in zip(cluster.servers, heard, strict=True)
    )
    print(f"hits {hits:.0f}, misses {misses:.0f}")
    assert hits / (hits + misses) >= 0.95
    assert all(first) and all(again)


def test_a_killed_server_costs_only_its_own_streams_and_keys_come_home(cluster: Cluster) -> None:
    keys = [f"key-{number}" for number in range(40)]
    before = {key: home(cluster, key) for key in keys}
    victim = cluster.servers[0]
    with traffic(cluster, 3) as outcomes:
        assert wait_for(lambda: len(outcomes) > 10, 60)
        victim.kill()
        known = len(outcomes)
        assert wait_for(lambda: len(outcomes) > known + 30, 120)
    failed = failures(outcomes)
    print(f"{len(outcomes)} asked, {len(failed)} failed: {[str(error)[:80] for error in failed]}")
    assert len(failed) <= 3  # at most one stream a client was at the killed server
    for error in failed:
        assert isinstance(error, grpc.RpcError)
        assert lost(error), error
    assert wait_for(lambda: cluster.stats()["cluster.servers-grpc.membership_healthy"] == 2, 30)
    others = [key for key in keys if before[key] != 0]
    moved = sum(home(cluster, key) != before[key] for key in others)
    print(f"{moved} of {len(others)} keys of living servers moved")
    assert moved <= 0.1 * len(keys)
    victim.start()
    victim.wait_until_ready()
    assert wait_for(lambda: all(home(cluster, key) == before[key] for key in keys), 60)


def test_a_rolling_restart_under_load_fails_nobody(cluster: Cluster) -> None:
    with traffic(cluster, 2) as outcomes:
        for server in cluster.servers:
            cluster.restart(server)
            known = len(outcomes)
            assert wait_for(lambda known=known: len(outcomes) > known + 4, 60)
    print(f"{len(outcomes)} asked, {len(failures(outcomes))} failed")
    assert not [str(error)[:200] for error in failures(outcomes)]
