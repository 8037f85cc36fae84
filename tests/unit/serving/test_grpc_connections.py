"""Connections of the gRPC port: one address cannot take them all, and messages that never come whole cost their
connection. Triton is a stand-in, the clients are bytes.
"""

import gc
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest
from tritonclient.grpc import service_pb2

from serving.door.admission import Limits
from serving.door.door import Door
from serving.door.memory_guard import MemoryGuard, in_use_bytes
from tests.support import scrape
from tests.support.fake_triton import FakeTriton
from tests.support.raw_grpc import RawGrpc
from tests.support.scrape import wait_until
from tests.support.stand_in_door import door_before
from tests.support.wire import ask
from tests.unit.serving.test_grpc_clients import OWN, OpenStream

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
INFER = "/inference.GRPCInferenceService/ModelInfer"
MOST = 16
MB = 1 << 20


@pytest.fixture
def door(triton: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    monkeypatch.setattr("serving.door.door.connections_allowed", lambda: MOST)
    limits = Limits(in_flight=8, message_bytes=32 * MB, upload_bytes=64 * MB)
    with door_before(triton, limits) as made:
        yield made


def alive(connections: list[RawGrpc]) -> int:
    return sum(one.alive for one in connections)


def test_idle_connections_of_one_address_leave_half_to_others(door: Door) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(RawGrpc(door.url, "127.0.0.7")) for _ in range(MOST)]
        for one in held:
            one.call(STREAM)  # a stream without a request is idle, too
        wait_until(lambda: alive(held) <= MOST // 2)
        assert alive(held) == MOST // 2
        assert ask(door.url, prompt="say=hi")
        assert alive(held) == MOST // 2


def test_idle_connections_of_many_addresses_make_room(door: Door) -> None:
    with ExitStack() as stack:
        held = [
            stack.enter_context(RawGrpc(door.url, f"127.0.0.{10 + number // 4}")) for number in range(MOST)
        ]
        wait_until(lambda: alive(held) <= MOST * 3 // 4)
        assert ask(door.url, prompt="say=hi")


def test_a_connection_with_a_request_is_not_closed(door: Door, triton: FakeTriton) -> None:
    with grpc.insecure_channel(door.url, options=OWN) as channel, ExitStack() as stack:
        stream = OpenStream(channel)
        stream.send("wait|say=hi")
        wait_until(lambda: door.admission.in_flight == 1)
        held = [stack.enter_context(RawGrpc(door.url)) for _ in range(MOST - 1)]  # of the same address
        wait_until(lambda: alive(held) <= MOST // 2)
        triton.go()
        assert b"hi" in stream.next().infer_response.raw_output_contents[0]
        stream.cancel()
    triton.hold()


@pytest.mark.skipif(in_use_bytes() is None, reason="another C library than glibc")
@pytest.mark.parametrize("method", [STREAM, INFER])
def test_messages_that_never_come_whole_cost_their_connections(door: Door, method: str) -> None:
    before = in_use_bytes() or 0
    with ExitStack() as stack:
        light = stack.enter_context(RawGrpc(door.url, "127.0.0.7"))
        light.send_part(light.call(method), 30 * MB, MB // 4)
        heavy = [stack.enter_context(RawGrpc(door.url, "127.0.0.8")) for _ in range(5)]
        for one in heavy:
            one.send_part(one.call(method), 30 * MB, 29 * MB)
        wait_until(lambda: alive(heavy) < 5)
        wait_until(lambda: (in_use_bytes() or 0) < before + 100 * MB)
        assert light.alive
        assert ask(door.url, prompt="say=hi")


@pytest.mark.skipif(in_use_bytes() is None, reason="another C library than glibc")
def test_memory_that_is_somebody_elses_costs_no_connection(door: Door) -> None:
    with RawGrpc(door.url, "127.0.0.8") as upload:
        upload.send_part(upload.call(STREAM), 30 * MB, 20 * MB)
        elses = bytes(256 * MB)
        assert door._grpc._memory.excess_bytes > 0
        assert door._grpc._connections.close_heaviest(64 * MB, 256 * MB) == 0
        assert upload.alive
        del elses


def test_what_the_door_knows_of_is_not_hidden() -> None:
    known, used = [0], [100]
    guard = MemoryGuard(50, lambda: known[0], lambda: used[0])
    assert guard.excess_bytes <= 0
    used[0] = 160
    assert guard.excess_bytes == 10
    known[0] = 30
    assert guard.excess_bytes <= 0


def test_where_the_memory_cannot_be_asked_nothing_is_closed() -> None:
    assert MemoryGuard(50, lambda: 0, lambda: None).excess_bytes == 0


@pytest.fixture
def no_collection() -> Iterator[None]:
    """The garbage collector comes late in a process that holds much."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.skipif(in_use_bytes() is None, reason="another C library than glibc")
@pytest.mark.parametrize("wrong", ["a model", "more parts than are read"])
@pytest.mark.usefixtures("no_collection")
def test_refusals_that_nobody_reads_keep_nothing_of_their_requests(wrong: str, triton: FakeTriton) -> None:
    count, size = 10, 4 * MB
    request = service_pb2.ModelInferRequest(model_name="unknown")
    if wrong != "a model":
        request.parameters["x"].string_param = "y" * 60_000
    request.inputs.add(name="audio", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(bytes(size))
    message = request.SerializeToString()
    with door_before(triton) as door, RawGrpc(door.url, "127.0.0.8", timeout_s=60, window=0) as client:
        door._watch._write_s = 600  # after which the stream would be ended
        before = in_use_bytes() or 0
        stream = client.call(STREAM)
        for _ in range(count):
            client.send_whole(stream, message)
        wait_until(lambda: refused(door) == count, 60)
        (serving,) = door._grpc.service._streams
        assert len(serving._running) == count  # none has been told yet
        assert (in_use_bytes() or 0) < before + 4 * size


def refused(door: Door) -> float:
    found = scrape.samples(f"http://{door.host}:{door.ports.metrics}/metrics")
    return sum(value for name, value in found.items() if name.startswith("af3_requests_refused_total"))
