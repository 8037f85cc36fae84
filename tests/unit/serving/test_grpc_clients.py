"""What gRPC clients do to the door beside asking; Triton is a stand-in."""

import queue
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.address import Ports, claim
from serving.door import relayed_answer as answer_module
from serving.door.admission import Limits
from serving.door.door import Door, TritonAddress
from serving.door.grpc_stream import GrpcStream
from serving.door.relay import Question
from tests.support.fake_triton import FakeTriton
from tests.support.scrape import wait_until
from tests.support.stand_in_door import door_before
from tests.support.wire import ask

HOST = "127.0.0.1"
OWN = [("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture
def door(triton: FakeTriton) -> Iterator[Door]:
    with door_before(triton, Limits(in_flight=8)) as made:
        yield made


class OpenStream:
    """A stream that stays open: `send` requests, `next` responses."""

    def __init__(self, channel: grpc.Channel):
        self._requests: queue.SimpleQueue = queue.SimpleQueue()
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._call = stub.ModelStreamInfer(iter(self._requests.get, None))

    def send(
        self, prompt: str = "", client_id: str = "", stop: str | None = None, speech: bool = False
    ) -> None:
        model = stop or ("audio_flamingo_speech" if speech else "audio_flamingo")
        request = service_pb2.ModelInferRequest(model_name=model, id=client_id)
        raw = b"\x01" if stop else len(prompt).to_bytes(4, "little") + prompt.encode()
        request.inputs.add(name="stop" if stop else "prompt", datatype="BOOL" if stop else "BYTES", shape=[1])
        request.raw_input_contents.append(raw)
        self._requests.put(request)

    def next(self):
        return next(self._call)

    def close(self) -> None:
        self._requests.put(None)

    def cancel(self) -> None:
        self._call.cancel()
        self.close()


def test_an_answer_is_stopped_on_the_connection_that_began_it(door: Door, triton: FakeTriton) -> None:
    with grpc.insecure_channel(door.url, options=OWN) as channel:
        asking, stopping = OpenStream(channel), OpenStream(channel)
        asking.send("forever", "mine")
        asking.next()
        stopping.send(client_id="mine", stop="llm")
        assert stopping.next().infer_response.parameters["triton_final_response"].bool_param
        while not asking.next().infer_response.parameters["triton_final_response"].bool_param:
            pass
        assert list(triton.seen)[-1] in {found for _, found in triton.stops}
        asking.close(), stopping.close()


def test_stops_without_end_reach_triton_a_few_times(door: Door, triton: FakeTriton) -> None:
    with grpc.insecure_channel(door.url, options=OWN) as channel:
        stream = OpenStream(channel)
        stream.send("forever", "mine", speech=True)
        stream.next()
        request_id = list(triton.seen)[-1]
        stopping, began_s = OpenStream(channel), time.monotonic()
        for _ in range(100):
            stopping.send(client_id="mine", stop="tts")
        for _ in range(100):
            stopping.next()
        seconds = time.monotonic() - began_s
        assert triton.stops["tts", request_id] <= 2 + 4 * seconds  # four a second
        assert ask(door.url, prompt="say=hi")
        for _ in range(500):
            stopping.send(client_id="someone else's", stop="tts")
        stopping.cancel(), stream.cancel()
        wait_until(lambda: door.admission.in_flight == 0)


def test_stops_of_one_stream_are_handled_one_after_the_other(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Side by side, a flood of them had a hundred turns in the door's loop where every other stream has one."""
    at_once, most, stop = Counter(), Counter(), GrpcStream._stop

    async def counted(self: GrpcStream, asked: Question) -> None:
        at_once["stops"] += 1
        most["stops"] = max(most["stops"], at_once["stops"])
        try:
            await stop(self, asked)
        finally:
            at_once["stops"] -= 1

    monkeypatch.setattr(GrpcStream, "_stop", counted)
    with grpc.insecure_channel(door.url, options=OWN) as channel:
        stream = OpenStream(channel)
        for _ in range(300):
            stream.send(client_id="someone else's", stop="tts")
        for _ in range(300):
            stream.next()
        stream.close()
    assert most["stops"] == 1


def test_an_error_on_a_stream_names_the_request_it_is_of(door: Door) -> None:
    with grpc.insecure_channel(door.url, options=OWN) as channel:
        stream = OpenStream(channel)
        asked = {"good": "say=hi", "bad": "error=INVALID_ARGUMENT: no", "gone": "die", "x" * 129: "say=hi"}
        for client_id, prompt in asked.items():
            stream.send(prompt, client_id)
        found = {one.infer_response.id: bool(one.error_message) for one in (stream.next() for _ in asked)}
        assert found == {client_id: client_id != "good" for client_id in asked}
        stream.cancel()


def test_idle_streams_block_nobody(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred on one connection, and more than the door keeps: health and questions pass."""
    monkeypatch.setattr(door._grpc.service._streams, "_most", 50)
    with grpc.insecure_channel(door.url, options=OWN) as channel:
        streams = [OpenStream(channel) for _ in range(250)]
        wait_until(lambda: len(door._grpc.service._streams) >= 50)
        with grpc.insecure_channel(door.url, options=OWN) as other:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(other)
            assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=5).live
            assert other.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5) == b"\x08\x01"
        assert ask(door.url, prompt="say=hi")
        wait_until(lambda: len(door._grpc.service._streams) <= 51)
        for stream in streams:
            stream.cancel()


def test_a_client_may_ping_often(door: Door) -> None:
    options = [
        *OWN,
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_timeout_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(door.url, options=options) as channel:
        stream = OpenStream(channel)
        stream.send("say=one")
        assert stream.next()
        # Long enough for gRPC's own server to have said "too many pings": it counts two that come too soon.
        time.sleep(6.0)
        stream.send("say=two")
        assert b"two" in stream.next().infer_response.raw_output_contents[0]
        stream.close()


def test_a_client_that_does_not_read_loses_its_stream_and_no_slot_of_others(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_module, "UNREAD_S", 0.3)
    limits = Limits(in_flight=1)
    with Door(TritonAddress(triton.ports, ""), HOST, claim(Ports(0, 0, 0), HOST), limits) as small:
        small.admission.ready = True
        small._watch._write_s = 1.0
        small.relay.unread.shared_bytes = 1 << 20
        with grpc.insecure_channel(small.url, options=OWN) as channel:
            stream = OpenStream(channel)
            stream.send("forever|big=200000", speech=True)
            wait_until(lambda: small.admission.in_flight == 1)
            wait_until(lambda: small.admission.in_flight == 0)
            assert ask(small.url, prompt="say=hi")
            wait_until(lambda: len(small._grpc.service._streams) == 0)
            with pytest.raises(grpc.RpcError):
                for _ in range(100_000):
                    stream.next()


def test_answers_that_nobody_reads_do_not_pile_up(door: Door, triton: FakeTriton) -> None:
    """One stream may have twice as many unfinished requests as the server takes; the rest waits at the client."""
    with grpc.insecure_channel(door.url, options=[*OWN, ("grpc.max_receive_message_length", -1)]) as channel:
        stream, seen = OpenStream(channel), len(triton.seen)
        for _ in range(200):
            stream.send("say=hi|many=2|big=100000", speech=True)
        # All that fit are unfinished: Triton has answered, the client has not read.
        wait_until(lambda: len(triton.seen) >= seen + 8)
        wait_until(lambda: door.admission.in_flight == 0)
        kept = sum(len(open_._running) for open_ in door._grpc.service._streams)
        assert kept <= 16
        stream.cancel()
