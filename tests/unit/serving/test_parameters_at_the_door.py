"""What Triton would take out of a request, cut off or answer at length is refused by name; Triton is a stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.door.door import Door
from serving.door.grpc_guard import HEALTH_SERVICE
from serving.door.upstream import SERVICE
from tests.support.fake_triton import FakeTriton
from tests.support.stand_in_door import door_before
from tests.support.two_protocols import PROTOCOLS, ask

WITHOUT_EFFECT = {
    "priority": 3,
    "sequence_id": 7,
    "sequence_start": True,
    "sequence_end": True,
    "binary_data_output": True,
}
CUT_OFF = {"stop": "end\0of it", "voice": "en-us\0", "max_tokens\0": 3, "adapter": "\0"}


@pytest.fixture(scope="module")
def door(triton: FakeTriton) -> Iterator[Door]:
    with door_before(triton) as made:
        yield made


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_a_parameter_that_triton_takes_for_itself_is_refused(name: str, protocol: str, door: Door) -> None:
    found = ask(protocol, door, "say=hi", **{name: WITHOUT_EFFECT[name]})
    assert (found.status, found.sentence) == (
        "INVALID_ARGUMENT",
        f"parameter '{name}' has no effect here; leave it out",
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", CUT_OFF)
def test_a_parameter_that_triton_would_cut_at_a_nul_is_refused(name: str, protocol: str, door: Door) -> None:
    found = ask(protocol, door, "say=hi", **{name: CUT_OFF[name]})
    shown = name.replace("\0", "\\0")
    assert (found.status, found.sentence) == (
        "INVALID_ARGUMENT",
        f"parameter '{shown}': a NUL character in it or in its name; leave the character out",
    )


def test_a_list_of_stops_may_hold_a_nul(door: Door) -> None:
    """It travels as JSON, which spells the character."""
    assert ask("http", door, "say=hi", stop=["a\0b"]).status == "OK"


def test_an_input_of_very_many_dimensions_is_refused_in_a_short_sentence(door: Door) -> None:
    request = service_pb2.ModelInferRequest(model_name="audio_flamingo", raw_input_contents=[b"\1\0\0\0x"])
    request.inputs.add(name="prompt", datatype="BYTES", shape=[1] * 5000)
    with grpc.insecure_channel(door.url) as channel, pytest.raises(grpc.RpcError) as refused:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=20)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "input 'prompt' has 5000 dimensions; send it with one"


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_another_version_of_a_model_is_not_found(method: str, door: Door) -> None:
    raw = service_pb2.ModelReadyRequest(name="audio_flamingo", version="9").SerializeToString()
    with grpc.insecure_channel(door.url) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"{SERVICE}{method}")(raw, timeout=20)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert refused.value.details() == "version '9' is not served; leave it out, or ask for 1"


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelConfig"])
def test_a_model_without_a_name_is_not_found(method: str, door: Door) -> None:
    with grpc.insecure_channel(door.url) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"{SERVICE}{method}")(b"", timeout=20)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_who_watches_a_service_that_is_unknown_is_told_that_and_goes_on_watching(door: Door) -> None:
    """As the protocol has it: the service may come later, so the call does not end with an error."""
    asked = service_pb2.ModelReadyRequest(name="none.such").SerializeToString()
    with grpc.insecure_channel(door.url) as channel:
        watching = channel.unary_stream(f"{HEALTH_SERVICE}Watch")(asked, timeout=20)
        assert next(watching) == b"\x08\x03"  # SERVICE_UNKNOWN
        assert watching.is_active()
        watching.cancel()


@pytest.mark.parametrize("value", [[], False, 0, ""])
def test_parameters_that_are_no_object_are_refused(value: Any, door: Door) -> None:
    found = ask("http", door, "say=hi", parameters=value)
    assert found.status == "INVALID_ARGUMENT"
    assert found.sentence.endswith("is not a JSON object")


def test_a_key_too_long_to_be_parsed_is_refused_as_one(door: Door) -> None:
    found = ask("http", door, "say=hi", **{"k" * 70_000: 1})
    assert (found.status, found.sentence) == (
        "INVALID_ARGUMENT",
        "a key of the JSON has more than 16384 bytes; shorten it",
    )
