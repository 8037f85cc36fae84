"""Clients that try to harm others through Envoy: odd keys, keys that lie, questions that make servers look broken."""

import http.client
import json
import time
from collections.abc import Callable
from contextlib import suppress

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from clients.request import prompt_request
from deploy.cluster import Cluster
from deploy.envoy import HOST
from deploy.loopback import wait_for
from tests.support.clips import clip
from tests.support.cluster_traffic import (
    ANSWERED,
    ask,
    bound,
    counted,
    failures,
    most_in_flight,
    post,
    traffic,
)

TIMES = 15  # more than Envoy lets a server fail one after another
GENERATE = "/v2/models/audio_flamingo/generate"


def ejections(cluster: Cluster) -> float:
    stats = cluster.stats()
    return sum(
        stats[f"cluster.servers-{kind}.outlier_detection.ejections_enforced_total"]
        for kind in ("http", "grpc")
    )


def http_status(cluster: Cluster, key: bytes, body: object = None) -> int:
    """Status of a question with this key, byte for byte."""
    content = json.dumps(body or {"prompt": "Hello", "max_tokens": 2}).encode()
    connection = http.client.HTTPConnection(HOST, cluster.ports.http, timeout=60)
    connection.putrequest("POST", GENERATE)
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(len(content)))
    connection.putheader("x-af3-affinity", key)
    connection.endheaders(content)
    status = connection.getresponse().status
    connection.close()
    return status


def grpc_status(cluster: Cluster, key: str, **parameters: int) -> grpc.StatusCode:
    request = prompt_request("audio_flamingo", [], "Hello", None, None, {"max_tokens": 2})
    for name, value in parameters.items():
        request.parameters[name].int64_param = value
    with grpc.insecure_channel(f"{HOST}:{cluster.ports.grpc}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        beside = (("x-af3-affinity", key), ("triton_grpc_error", "true"))
        try:
            list(stub.ModelStreamInfer(iter([request]), metadata=beside, timeout=60))
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def still_served(cluster: Cluster, before: float) -> None:
    assert ejections(cluster) == before
    stats = cluster.stats()
    assert [stats[f"cluster.servers-{kind}.membership_healthy"] for kind in ("http", "grpc")] == [3, 3]
    assert ask(cluster, clip(0.3, seed=1))


ODD = {
    "empty": b"",
    "a blank": b" ",
    "10 kB": b"k" * 10_240,
    "UTF-8": "ключ-鍵".encode(),
    "no UTF-8": b"\xff\xfe\x80",
    "several": b"a, b, a",
    "an escape": b"%00%0d%0ax-other: 1",
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_key_over_http_is_answered_or_refused_and_harms_nobody(cluster: Cluster, name: str) -> None:
    before = ejections(cluster)
    found = {http_status(cluster, ODD[name]) for _ in range(TIMES)}
    print(f"{name}: {found}")
    assert found in ({200}, {400}, {431})
    still_served(cluster, before)


@pytest.mark.parametrize("name", ["empty", "10 kB", "several", "an escape"])  # gRPC's library sends no others
def test_an_odd_key_over_grpc_is_answered_or_refused_and_harms_nobody(cluster: Cluster, name: str) -> None:
    before = ejections(cluster)
    found = {grpc_status(cluster, ODD[name].decode()) for _ in range(TIMES)}
    print(f"{name}: {found}")
    assert found <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }  # gRPC refuses long metadata by chance
    still_served(cluster, before)


def no_such_method(cluster: Cluster) -> grpc.StatusCode:
    with grpc.insecure_channel(f"{HOST}:{cluster.ports.grpc}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/NoSuchMethod")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", metadata=(("x-af3-affinity", "aimed"),), timeout=30)
    return refused.value.code()


BLAMED: dict[str, tuple[Callable[[Cluster], object], object]] = {
    "no time, gRPC": (
        lambda cluster: grpc_status(cluster, "aimed", timeout=1),
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ),
    "no time, HTTP": (
        lambda cluster: http_status(cluster, b"aimed", {"prompt": "Hello", "timeout": 1}),
        504,
    ),
    "no such method": (no_such_method, grpc.StatusCode.UNIMPLEMENTED),
}


@pytest.mark.parametrize("name", BLAMED)
def test_errors_that_a_client_brings_about_eject_no_server(cluster: Cluster, name: str) -> None:
    """All at one server, one after another: else each of them could be put out of use, by anybody."""
    act, expected = BLAMED[name]
    before = ejections(cluster)
    assert {act(cluster) for _ in range(TIMES)} == {expected}
    still_served(cluster, before)


def test_clients_that_leave_at_once_eject_no_server(cluster: Cluster) -> None:
    before = ejections(cluster)
    for _ in range(TIMES):
        with grpc.insecure_channel(f"{HOST}:{cluster.ports.grpc}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            request = prompt_request("audio_flamingo", [], "count", None, None, {"max_tokens": 1024})
            call = stub.ModelStreamInfer(iter([request]), metadata=(("x-af3-affinity", "aimed"),))
            with suppress(grpc.RpcError):
                next(iter(call))
            call.cancel()
    still_served(cluster, before)


def test_clients_that_all_name_one_server_are_spread_within_the_bound(cluster: Cluster) -> None:
    """A key that lies about its clip buys no more of a server than the bound."""
    clients = 12
    with traffic(cluster, clients, lambda number, turn: "one-key-for-all", 64) as outcomes:
        # Until each of Envoy's workers is connected, what waits for the connection is not counted.
        assert wait_for(lambda: len(outcomes) > 4 * clients, 60)
        before = [counted(server, ANSWERED) for server in cluster.servers]
        end, enough = time.monotonic() + 120, len(outcomes) + 120
        most = most_in_flight(cluster, lambda: len(outcomes) > enough or time.monotonic() > end)
    shares = [counted(server, ANSWERED) - old for server, old in zip(cluster.servers, before, strict=True)]
    print(f"answered {shares}, most in flight {most}")
    assert not failures(outcomes)
    assert len(outcomes) > enough
    assert sum(share > 0 for share in shares) >= 2  # what is over goes to another
    assert max(most) <= bound(cluster, clients)


def test_a_key_in_a_query_may_be_odd_too(cluster: Cluster) -> None:
    before = ejections(cluster)
    for query in ("?session=", "?prompt_cache_key=%00", "?session=" + "s" * 4000, "?session=%D0%BA"):
        status, text, _ = post(cluster, {"prompt": "Hello", "max_tokens": 2}, query)
        assert status == 200, text
    still_served(cluster, before)
