"""What one API key allows: requests at once, requests and audio a minute. Triton is a stand-in."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from serving.audio_usage import UsageSender
from tests.support.fake_triton import FakeTriton
from tests.support.guarded_door import GENERATE, HOST, Guarded, bearer, guarded_door, request_of
from tests.support.scrape import wait_until


@pytest.fixture
def guarded(triton: FakeTriton, tmp_path: Path) -> Iterator[Guarded]:
    with guarded_door(triton, tmp_path) as made:
        yield made


LIMITS = {
    "requests at once": ({"requests_at_once": 1}, "1 requests in flight, the most of key 'alice'"),
    "requests a minute": ({"requests_per_minute": 1}, "1 requests a minute, the most of key 'alice'"),
    "audio a minute": ({"audio_seconds_per_minute": 30}, "30 s of audio a minute, the most of key 'alice'"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_past_a_limit_of_its_key_a_request_is_told_when_to_come_again(
    limit: str, guarded: Guarded, triton: FakeTriton
) -> None:
    values, said = LIMITS[limit]
    guarded.change("alice", **values)
    alice, held = guarded.key["alice"], None
    if limit == "requests at once":
        held = grpc.insecure_channel(guarded.door.url, [("grpc.use_local_subchannel_pool", 1)])
        request = request_of("forever", "")
        call = service_pb2_grpc.GRPCInferenceServiceStub(held).ModelStreamInfer(
            iter([request]), metadata=bearer(alice), timeout=30
        )
        next(call)
    else:
        assert guarded.grpc(alice) == "OK"
        if limit == "audio a minute":
            say_heard(guarded, triton, alice)
    status, headers, body = guarded.http(alice)
    assert (status, said in json.loads(body)["error"]) == (429, True), body
    assert 1 <= int(headers["retry-after"]) <= 120
    assert guarded.grpc(alice) == "RESOURCE_EXHAUSTED"
    assert guarded.counted(f'af3_callers_refused_total{{why="{limit}"}}') == 2
    assert guarded.grpc(guarded.key["bob"]) == "OK"
    if held is not None:
        held.close()
        wait_until(lambda: guarded.door.admission.in_flight == 0)
        assert guarded.grpc(alice) == "OK"


def say_heard(guarded: Guarded, triton: FakeTriton, key: str) -> None:
    """A clip of 61 s has been decoded for a request that is being answered."""
    triton.hold()
    before = set(triton.seen)
    connection = http.client.HTTPConnection(HOST, guarded.door.ports.http, timeout=30)
    connection.request("POST", GENERATE, json.dumps({"prompt": "wait"}), {"Authorization": f"Bearer {key}"})
    wait_until(lambda: len(triton.seen) > len(before))
    (request_id,) = set(triton.seen) - before
    UsageSender(guarded.door.usage_socket).tell(request_id, 61.0)
    wait_until(lambda: guarded.counted('af3_key_audio_seconds_total{key="alice"}') == 61)
    triton.go()
    assert connection.getresponse().status == 200
    connection.close()
