"""The key of a request: repeated, or made, by the door; the same that our clients make."""

import asyncio
import hashlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients.clip_key import affinity_key
from clients.request import messages_request, prompt_request
from serving.address import Ports, claim
from serving.door import affinity, wire_request
from serving.door.door import Door, TritonAddress
from tests.support.fake_triton import FakeTriton

CLIP = b"RIFF" + bytes(range(256)) * 1024
SYSTEM = {"role": "system", "content": "Be brief."}
FIRST = {"role": "user", "content": "Hello"}
LATER = [{"role": "assistant", "content": "Hi."}, {"role": "user", "content": "And?"}]


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with (
        FakeTriton() as triton,
        Door(TritonAddress(triton.ports, ""), "127.0.0.1", claim(Ports(0, 0, 0), "127.0.0.1")) as made,
    ):
        made.admission.ready = True
        yield made


def by_grpc(door: Door, request: Any, key: str | None, method: str = "ModelStreamInfer") -> str | None:
    metadata = () if key is None else (("x-af3-affinity", key),)
    with grpc.insecure_channel(door.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        if method == "ModelInfer":
            _, call = stub.ModelInfer.with_call(request, metadata=metadata, timeout=20)
        else:
            call = stub.ModelStreamInfer(iter([request]), metadata=metadata, timeout=20)
            assert list(call)
        return dict(call.initial_metadata()).get("x-af3-affinity")


def by_http(door: Door, body: dict[str, Any], key: str | None, method: str = "generate_stream") -> str | None:
    connection = http.client.HTTPConnection(door.host, door.ports.http, timeout=20)
    headers = {} if key is None else {"X-AF3-Affinity": key}
    connection.request("POST", f"/v2/models/audio_flamingo/{method}", json.dumps(body), headers)
    reply = connection.getresponse()
    assert reply.status == 200, reply.read()
    reply.read()
    return reply.getheader("x-af3-affinity")


def spoken(clips: list[bytes], prompt: str = "say=hi") -> service_pb2.ModelInferRequest:
    return prompt_request("audio_flamingo", clips, prompt, None, None, {})


@pytest.mark.parametrize("method", ["ModelStreamInfer", "ModelInfer"])
def test_a_key_comes_back_over_grpc(door, method):
    assert by_grpc(door, spoken([CLIP]), "my-key", method) == "my-key"


@pytest.mark.parametrize("method", ["generate_stream", "generate"])
def test_a_key_comes_back_over_http(door, method):
    assert by_http(door, {"prompt": "say=hi"}, "mine", method) == "mine"


def test_a_request_without_an_affinity_key_gets_that_of_its_first_clip(door):
    expected = hashlib.sha256(CLIP).hexdigest()[:16]
    assert by_grpc(door, spoken([CLIP, b"another"]), None) == expected
    assert by_grpc(door, spoken([CLIP], "say=what|many=3"), None) == expected
    assert by_grpc(door, spoken([CLIP]), None, "ModelInfer") == expected
    text = "A" * 5000
    assert (
        by_http(door, {"prompt": "say=hi", "audio": text}, None)
        == hashlib.sha256(text.encode()).hexdigest()[:16]
    )


@pytest.mark.parametrize("bad", ["x" * 129, "", "a b"])
def test_a_key_that_no_header_should_hold_is_not_repeated(door, bad):
    own = hashlib.sha256(CLIP).hexdigest()[:16]
    assert by_grpc(door, spoken([CLIP]), bad) == own


def test_a_refused_request_has_no_affinity_key_so_a_proxy_may_retry_elsewhere(door):
    """Envoy retries only what has not begun: no initial metadata before the first response."""
    door.admission.ready = False
    try:
        with grpc.insecure_channel(door.url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            call = stub.ModelStreamInfer(
                iter([spoken([CLIP])]), metadata=(("x-af3-affinity", "k"), ("triton_grpc_error", "true"))
            )
            with pytest.raises(grpc.RpcError) as refused:
                list(call)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "x-af3-affinity" not in dict(call.initial_metadata())
    finally:
        door.admission.ready = True


def conversation(*turns: Any) -> service_pb2.ModelInferRequest:
    return messages_request("audio_flamingo", list(turns), [], None, None, {})


def test_a_conversation_without_clips_keeps_its_key_from_turn_to_turn():
    keys = {affinity_key(conversation(SYSTEM, FIRST)), affinity_key(conversation(SYSTEM, FIRST, *LATER))}
    assert len(keys) == 1
    assert affinity_key(conversation(SYSTEM, LATER[1])) not in keys


REQUESTS = {
    "clips": spoken([CLIP, b"b"]),
    "a small clip": spoken([b"RIFF"]),
    "a prompt alone": spoken([], "say=hi"),
    "messages": conversation(SYSTEM, FIRST, *LATER),
    "a long conversation": conversation(SYSTEM, {"role": "user", "content": "a" * 100_000}, *LATER),
    "messages without a user": conversation(SYSTEM),
    "no conversation": messages_request("audio_flamingo", [1, {}], [], None, None, {}),  # type: ignore[list-item]
}


def key_of(request: service_pb2.ModelInferRequest) -> str:
    read, _ = wire_request.read(request.SerializeToString())
    return asyncio.run(affinity.of_request(read))


@pytest.mark.parametrize("name", REQUESTS)
def test_client_and_door_make_the_same_key(name):
    assert key_of(REQUESTS[name]) == affinity_key(REQUESTS[name]) != ""


def test_an_empty_request_has_no_affinity_key():
    assert key_of(service_pb2.ModelInferRequest()) == ""


def test_a_huge_conversation_is_not_parsed_in_the_event_loop(monkeypatch):
    monkeypatch.setattr(affinity.json, "loads", lambda text: pytest.fail("parsed"))
    assert key_of(conversation(SYSTEM, {"role": "user", "content": "a" * 100_000}))
