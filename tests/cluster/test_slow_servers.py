"""A server that answers late, but answers, and is well by its own word: Envoy leaves it alone for a while."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from deploy.envoy import HOST, Judgement
from deploy.loopback import wait_for
from deploy.proxy import Proxy
from tests.support.cluster_traffic import leading_to, meanwhile
from tests.support.named_server import NamedServer

QUICK_S, SLOW_S = 0.02, 1.0
CLIENTS = 8
JUDGEMENT = Judgement(slow_factor=4, slow_ms=400, ejection_s=6)
SETTLED_S = 1.0  # until all workers of Envoy know, and what had been sent before is answered


@pytest.fixture
def proxy(envoy: Path, servers: list[NamedServer], tmp_path: Path) -> Iterator[Proxy]:
    for one in servers:
        one.delay_s = lambda number: QUICK_S
    with leading_to(servers, Proxy(tmp_path, judgement=JUDGEMENT)) as running:
        yield running


@dataclass(frozen=True)
class Answered:
    """sent_s: by the monotonic clock; by: name of the server; headers: of the reply."""

    sent_s: float
    by: str
    headers: dict[str, str]


def by_grpc(proxy: Proxy, channel: grpc.Channel, key: str) -> tuple[str, dict[str, str]]:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    request = service_pb2.ModelInferRequest(model_name="any")
    call = stub.ModelStreamInfer(iter([request]), metadata=(("x-af3-affinity", key),), timeout=60)
    (response,) = call
    return response.infer_response.model_name, {
        str(name): str(value) for name, value in call.initial_metadata()
    }


def by_http(proxy: Proxy, channel: grpc.Channel, key: str) -> tuple[str, dict[str, str]]:
    connection = http.client.HTTPConnection(HOST, proxy.ports.http, timeout=60)
    connection.request("POST", "/v2/models/any/generate", b"{}", {"x-af3-affinity": key})
    reply = connection.getresponse()
    assert reply.status == 200
    name = reply.read().decode()
    connection.close()
    return name, dict(reply.getheaders())


ASK = {"grpc": by_grpc, "http": by_http}


@contextmanager
def load(proxy: Proxy, protocol: str) -> Iterator[list[Answered]]:
    """`CLIENTS` that ask one question after another, each with a key of its own, while the block runs."""
    answers: list[Answered] = []

    def asks(number: int, over: threading.Event) -> None:
        turn = 0
        with grpc.insecure_channel(
            f"{HOST}:{proxy.ports.grpc}", [("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            while not over.is_set():
                turn += 1
                sent_s = time.monotonic()
                answers.append(Answered(sent_s, *ASK[protocol](proxy, channel, f"{number}-{turn}")))

    with meanwhile(CLIENTS, asks):
        yield answers


def ejections(proxy: Proxy, protocol: str) -> float:
    return proxy.stats()[f"cluster.servers-{protocol}.outlier_detection.ejections_enforced_total"]


def healthy(proxy: Proxy, protocol: str) -> float:
    return proxy.stats()[f"cluster.servers-{protocol}.membership_healthy"]


@pytest.mark.parametrize("protocol", ASK)
def test_a_slow_server_is_ejected_and_comes_back_when_it_is_quick(
    protocol: str, proxy: Proxy, servers: list[NamedServer]
) -> None:
    slow = servers[1]
    with load(proxy, protocol) as answers:
        assert wait_for(lambda: len(answers) > 100, 60)
        assert ejections(proxy, protocol) == 0
        before = slow.asked
        slow.delay_s = lambda number: SLOW_S
        assert wait_for(lambda: ejections(proxy, protocol) == 1, 60)
        ejected_s = time.monotonic()
        print(f"{slow.asked - before} questions to the slow server until it was ejected")
        assert wait_for(lambda: time.monotonic() - ejected_s > JUDGEMENT.ejection_s - 2, 30)
        slow.delay_s = lambda number: QUICK_S
        assert wait_for(lambda: healthy(proxy, protocol) == 3, 60)
        returned = slow.asked
        assert wait_for(lambda: slow.asked > returned + 20, 60)
        assert ejections(proxy, protocol) == 1
    during = [
        one.by for one in answers if ejected_s + SETTLED_S < one.sent_s < ejected_s + JUDGEMENT.ejection_s - 2
    ]
    print(f"{len(answers)} answered, {len(during)} while it was ejected")
    assert during
    assert slow.name not in during
    assert not [one for one in answers if "x-af3-late" in one.headers]


@pytest.mark.parametrize("protocol", ASK)
def test_when_all_servers_are_slow_none_is_ejected(
    protocol: str, proxy: Proxy, servers: list[NamedServer]
) -> None:
    with load(proxy, protocol) as answers:
        assert wait_for(lambda: len(answers) > 100, 60)
        for one in servers:
            one.delay_s = lambda number: SLOW_S
        known = len(answers)
        assert wait_for(lambda: len(answers) > known + 120, 120)
        assert ejections(proxy, protocol) == 0


@pytest.mark.parametrize("protocol", ASK)
def test_long_questions_among_short_ones_eject_nobody(
    protocol: str, proxy: Proxy, servers: list[NamedServer]
) -> None:
    for one in servers:
        one.delay_s = lambda number: SLOW_S if number % 4 == 0 else QUICK_S
    with load(proxy, protocol) as answers:
        assert wait_for(lambda: min(one.asked for one in servers) > 60, 120)
        assert ejections(proxy, protocol) == 0
    assert not [one for one in answers if "x-af3-late" in one.headers]


def test_time_that_a_client_takes_for_its_upload_is_not_the_servers(proxy: Proxy) -> None:
    """Streams that are opened long before their question is sent, more than ten in a row to one server."""

    def answered_by(key: str, wait_s: float = 0.0) -> str:
        def questions() -> Iterator[service_pb2.ModelInferRequest]:
            time.sleep(wait_s)
            yield service_pb2.ModelInferRequest(model_name="any")

        with grpc.insecure_channel(f"{HOST}:{proxy.ports.grpc}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            call = stub.ModelStreamInfer(questions(), metadata=(("x-af3-affinity", key),), timeout=60)
            (response,) = call
        return str(response.infer_response.model_name)

    aimed_at = answered_by("aimed")
    others = [key for number in range(60) if answered_by(key := f"quick-{number}") != aimed_at]
    for turn in range(15):
        assert wait_for(proxy.idle, 20)
        assert answered_by("aimed", 1.5 * JUDGEMENT.slow_ms / 1000) == aimed_at
        for number in range(4):
            answered_by(others[(4 * turn + number) % len(others)])
    assert ejections(proxy, "grpc") == 0
