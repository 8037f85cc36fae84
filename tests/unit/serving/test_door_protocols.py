"""gRPC and HTTP say, do, count and write the same for the same request; Triton is a stand-in.

Long because every case is asked over both.
"""

import http.client
import json
import socket
import struct
import threading
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient import grpc as tritonclient
from tritonclient.grpc import service_pb2, service_pb2_grpc

from af3.contract import MAX_TEXT_BYTES
from af3.errors import RequestError
from serving import journal
from serving.door import relayed_answer as answer_module
from serving.door import request_check
from serving.door.admission import Limits
from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.scrape import wait_until
from tests.support.stand_in_door import door_before
from tests.support.two_protocols import PROTOCOLS, ask, leave, raw_request
from tests.support.wire import Stream, stop_speech

HOST = "127.0.0.1"


def counted(door: Door, name: str) -> float:
    for line in door.metrics.text().splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return 0.0


ERRORS = {
    "a step's refusal": ("error=in ensemble 'x', INVALID_ARGUMENT: audio[0]: no", "INVALID_ARGUMENT"),
    "a step's fault": ("error=INTERNAL: internal error, reference 1", "INTERNAL"),
    "a full queue": ("error=in ensemble 'x', UNAVAILABLE: the queue is full", "UNAVAILABLE"),
    "a dead step": ("error=in ensemble 'x', Stub process 'llm_0_0' is not healthy.", "UNAVAILABLE"),
    "Triton's refusal": ("error=[request id: 1] unexpected shape for input 'prompt'", "INVALID_ARGUMENT"),
    "a forged status": ("error=HACKED: yes", "INVALID_ARGUMENT"),
    "Triton is gone": ("die", "UNAVAILABLE"),
    "Triton goes in the middle": ("die=2|many=5", "UNAVAILABLE"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_has_one_status_and_one_sentence_and_is_counted_so(name: str, door: Door) -> None:
    prompt, status = ERRORS[name]
    before = counted(door, f'af3_requests_total{{status="{status}"}}')
    grpc, http = (ask(protocol, door, prompt) for protocol in PROTOCOLS)
    assert grpc == http
    assert grpc.status == status
    wait_until(lambda: counted(door, f'af3_requests_total{{status="{status}"}}') == before + 2)
    door.admission.lost_step = False  # the supervisor has replaced Triton


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ERRORS)
def test_a_failure_has_the_supervisor_look_at_once_and_a_refusal_does_not(
    name: str, protocol: str, door: Door
) -> None:
    prompt, status = ERRORS[name]
    door.admission.suspicious = False
    assert ask(protocol, door, prompt).status == status
    seen = door.admission.suspicious or door.admission.lost_step
    assert seen == (status in ("UNAVAILABLE", "INTERNAL"))
    door.admission.suspicious = door.admission.lost_step = False


def refused(door: Door, **options: object) -> tuple[str, str]:
    grpc, http = (ask(protocol, door, "say=hi", **options) for protocol in PROTOCOLS)
    assert grpc == http
    return grpc.status, grpc.sentence


def test_what_the_door_refuses_is_refused_alike(door: Door) -> None:
    assert refused(door, timeout=0)[1].startswith("parameter 'timeout': 0; must be a positive")
    assert refused(door, timeout="soon")[0] == "INVALID_ARGUMENT"
    assert refused(door, model="llm")[0] == "NOT_FOUND"
    assert refused(door, client_id="x" * 129)[1].startswith("the request id has 129 characters")
    assert refused(door, **{f"p{place}": 1 for place in range(33)})[1].startswith("more than 32 parameters")
    door.admission.ready = False
    assert refused(door)[1] == "the server is starting; try again in 5 s"
    door.admission.ready = True


def test_a_text_that_a_tokenizer_would_choke_on_is_refused_alike(door: Door) -> None:
    """Each MB takes it 2 s and 200 MB."""
    text = "say=hi|".ljust(MAX_TEXT_BYTES, "x")
    for protocol in PROTOCOLS:
        found = ask(protocol, door, text)
        assert (found.text, found.sentence) == ("hi", "")
        found = ask(protocol, door, text + "x")
        assert found.status == "INVALID_ARGUMENT"
        assert found.sentence == (
            "prompt: 256001 bytes, more than the 256000 of text that one request may hold; shorten it or drop old"
            " turns, and send clips in audio"
        )
        found = ask(protocol, door, None, messages=json.dumps([{"role": "user", "content": text}]))
        assert found.sentence.startswith("messages: 2560")


@pytest.mark.parametrize("model", ["audio_flamingo", "audio_flamingo_speech"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_question_that_is_asked_twice_or_not_at_all_is_not_sent_to_triton(
    protocol: str, model: str, door: Door, triton: FakeTriton
) -> None:
    before = len(triton.seen)
    for found, prompt, more in (("neither", None, {}), ("both", "say=hi", {"messages": "[]"})):
        outcome = ask(protocol, door, prompt, model=model, **more)
        assert outcome.status == "INVALID_ARGUMENT"
        assert outcome.sentence == f"{found} of prompt and messages given; send exactly one of them"
    assert len(triton.seen) == before


def test_a_text_is_measured_also_where_an_input_holds_its_contents_itself() -> None:
    request = service_pb2.ModelInferRequest(model_name="audio_flamingo")
    request.inputs.add(name="prompt").contents.bytes_contents.append(b"x" * MAX_TEXT_BYTES)
    request_check.check(request, (), "")
    request.inputs[0].contents.bytes_contents.append(b"x")
    with pytest.raises(RequestError, match="prompt: 256001 bytes, more than"):
        request_check.check(request, (), "")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_answer_comes_whole_in_order_and_with_the_clients_own_id(protocol: str, door: Door) -> None:
    for client_id in ("mine\0", "né] HACKED: ", ""):
        found = ask(protocol, door, "say=la|many=40", client_id=client_id)
        assert (found.text, found.client_id) == ("la" * 40, client_id)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_triton_never_sees_an_id_of_a_client(protocol: str, door: Door, triton: FakeTriton) -> None:
    before = set(triton.seen)
    for _ in range(2):
        assert ask(protocol, door, "say=hi", client_id="same").status == "OK"
    fresh = set(triton.seen) - before
    assert len(fresh) == 2
    assert all(len(found) == 32 and found.isalnum() for found in fresh)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_past_its_deadline_a_request_is_told_so_and_stopped(
    protocol: str, door: Door, triton: FakeTriton
) -> None:
    found = ask(protocol, door, "wait", timeout=50_000)
    assert (found.status, found.sentence) == (
        "DEADLINE_EXCEEDED",
        "not answered within 0.05 s; allow more time",
    )
    wait_until(lambda: door.admission.in_flight == 0)
    assert triton.live == 0


@pytest.mark.parametrize("after_first", [True, False], ids=["in the middle", "before the first response"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_that_leaves_is_counted_and_stopped_and_its_slot_freed(
    protocol: str, after_first: bool, door: Door, triton: FakeTriton
) -> None:
    name = 'af3_requests_cancelled_total{model="audio_flamingo"}'
    before, seen = counted(door, name), len(triton.seen)
    if after_first:
        leave(protocol, door, "forever")
    else:
        stream_or_socket = leave_waiting(protocol, door)
        wait_until(lambda: len(triton.seen) > seen)
        stream_or_socket()
    wait_until(lambda: counted(door, name) == before + 1)
    wait_until(lambda: door.admission.in_flight == 0)
    assert triton.live == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_answer_is_stopped_until_the_llm_hears_it(protocol: str, own_triton: FakeTriton) -> None:
    """A stop that comes before the LLM has the request is ignored there."""
    with door_before(own_triton) as own:
        leave(protocol, own, "forever|deaf=2")
        wait_until(lambda: own.admission.in_flight == 0)
    (found,) = own_triton.seen
    assert own_triton.stops["llm", found] >= 3  # the first two were not heard
    assert own_triton.live == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_that_leaves_with_the_whole_answer_has_been_answered(
    protocol: str, door: Door, triton: FakeTriton
) -> None:
    """Many leave as soon as they have read the last response, before the stream itself ends."""
    names = [f'af3_requests_total{{status="{status}"}}' for status in ("OK", "CANCELLED")]
    before = [counted(door, name) for name in names]
    triton.hold()
    try:
        if protocol == "grpc":
            assert ask(protocol, door, "say=hi|linger").status == "OK"
        else:
            with raw_request(door, {"prompt": "say=hi|linger"}) as connection:
                while b"stop" not in connection.recv(4096):
                    pass
                # A reset: an end alone could be of one who still listens.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_until(lambda: door.relay.open_answers == 0)
    finally:
        triton.go()
    assert [counted(door, name) for name in names] == [before[0] + 1, before[1]]
    wait_until(lambda: door.admission.in_flight == 0)
    triton.hold()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_kept_of_a_request_that_was_answered_or_refused(protocol: str, door: Door) -> None:
    for _ in range(5):
        assert ask(protocol, door, "say=hi").status == "OK"
        assert ask(protocol, door, "error=INVALID_ARGUMENT: no").status == "INVALID_ARGUMENT"
        leave(protocol, door, "forever")
    wait_until(lambda: len(door._watch) == 0)


def leave_waiting(protocol: str, door: Door):
    if protocol == "http":
        return raw_request(door, {"prompt": "wait"}).close
    return Stream(door.url, prompt="wait").cancel


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_slot_is_held_until_triton_has_ended(
    protocol: str, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The LLM may work on for a while after a stop: others must not be let in on its account."""
    monkeypatch.setattr(answer_module, "STOP_TRIES", 4)
    with door_before(triton, Limits(in_flight=1)) as small:
        leave(protocol, small, "forever|deaf")
        wait_until(lambda: counted(small, 'af3_requests_total{status="CANCELLED"}') == 1)
        found = ask(protocol, small, "say=hi")
        assert (found.status, small.admission.in_flight) == ("UNAVAILABLE", 1)
        wait_until(lambda: small.admission.in_flight == 0)  # the call was broken off in the end
        assert ask(protocol, small, "say=hi").status == "OK"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_has_the_last_response_may_ask_again_at_once(protocol: str, triton: FakeTriton) -> None:
    """A client that keeps as many requests in flight as are accepted is not refused."""
    triton.hold()
    with door_before(triton, Limits(in_flight=1)) as small, ExitStack() as open_connection:
        if protocol == "grpc":
            assert ask(protocol, small, "say=hi|linger").status == "OK"
        else:
            connection = open_connection.enter_context(raw_request(small, {"prompt": "say=hi|linger"}))
            while b"stop" not in connection.recv(4096):
                pass
        assert ask(protocol, small, "say=hi").status == "OK"
        triton.go()
    triton.hold()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_full_server_says_when_to_try_again(protocol: str, triton: FakeTriton) -> None:
    with door_before(triton, Limits(in_flight=1)) as small:
        held = small.admission.enter()
        found = ask(protocol, small, "say=hi")
        assert found.status == "UNAVAILABLE"
        assert "1 requests are in flight, the most that are accepted; try again in" in found.sentence
        held.release()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_leaves_one_line_in_the_journal(
    protocol: str, door: Door, triton: FakeTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "journal").touch()
    monkeypatch.setenv(journal.VARIABLE, str(tmp_path / "journal"))
    assert ask(protocol, door, "say=secret|many=3", client_id="né").status == "OK"
    wait_until(lambda: "\n" in (tmp_path / "journal").read_text())
    (line,) = (tmp_path / "journal").read_text().splitlines()
    found = json.loads(line)
    assert found["id"] in triton.seen
    fixed = ("client_id", "protocol", "model", "status", "tokens")
    assert tuple(found[key] for key in fixed) == ("né", protocol, "audio_flamingo", "OK", 3)
    assert "secret" not in line


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_is_answered_at_the_end_is_told_that_the_server_goes(protocol: str, triton: FakeTriton) -> None:

    with door_before(triton) as leaving:
        found = []
        client = threading.Thread(target=lambda: found.append(ask(protocol, leaving, "forever")))
        client.start()
        wait_until(lambda: leaving.admission.in_flight == 1)
        assert leaving.drain(0.0) == 1
        client.join(20)
    assert (found[0].status, found[0].sentence) == (
        "UNAVAILABLE",
        "the server shut down before the answer was complete",
    )


def test_only_the_names_of_the_ensemble_reach_triton(door: Door, triton: FakeTriton) -> None:

    def error_of(request) -> str:
        with grpc.insecure_channel(door.url) as channel:
            (response,) = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([request]))
        return response.error_message

    before = len(triton.seen)
    door.admission.suspicious = False
    many = service_pb2.ModelInferRequest(model_name="audio_flamingo")
    for place in range(200_000):
        many.inputs.add(name=f"i{place}")
    assert "more than 256 parts" in error_of(many)
    named = service_pb2.ModelInferRequest(model_name="audio_flamingo")
    named.inputs.add(name="unavailable", datatype="BYTES", shape=[1])
    assert error_of(named).startswith("INVALID_ARGUMENT: input 'unavailable' is unknown; known are audio")
    twice = service_pb2.ModelInferRequest(model_name="audio_flamingo")
    for _ in range(2):
        twice.inputs.add(name="prompt", datatype="BYTES", shape=[1])
    assert "'prompt' stands twice" in error_of(twice)
    outputs = service_pb2.ModelInferRequest(model_name="audio_flamingo")
    outputs.outputs.add(name="speech")
    assert "output 'speech' is unknown" in error_of(outputs)
    shared = service_pb2.ModelInferRequest(model_name="audio_flamingo")
    shared.inputs.add(name="prompt").parameters["shared_memory_region"].string_param = "x"
    assert "has parameters of its own, such as shared memory" in error_of(shared)
    nothing = service_pb2.ModelInferRequest(model_name="audio_flamingo", raw_input_contents=[b""] * 20)
    assert "20 raw_input_contents for 0 inputs" in error_of(nothing)
    assert len(triton.seen) == before
    assert not door.admission.suspicious


def test_a_message_that_is_no_protobuf_is_refused(door: Door) -> None:

    with grpc.insecure_channel(door.url) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        for bad in (b"\xff" * 10, b"\xff" * 100_000, b"\x0a\xff\xff\xff\xff\x0f" + bytes(70_000)):
            (raw,) = call(iter([bad]))
            assert b"not one of the KServe protocol" in raw


def test_another_clients_answer_cannot_be_stopped_by_its_id(door: Door, triton: FakeTriton) -> None:
    stream = Stream(door.url, prompt="wait|say=mine", request_id="victim")
    wait_until(lambda: triton.live == 1)
    before = sum(triton.stops.values())
    for model in ("tts", "llm"):
        for client_id in ("victim", ""):
            stop_speech(door.url, client_id, model)
    assert sum(triton.stops.values()) == before
    triton.go()
    assert [response.text for response in stream] == ["mine"]
    assert counted(door, 'af3_stops_total{found="no"}') >= 4


def test_generate_gets_the_whole_answer(door: Door) -> None:
    connection = http.client.HTTPConnection(door.host, door.ports.http, timeout=20)
    for prompt, status in (("say=la |many=3", 200), ("die=2|many=5", 503)):
        body = json.dumps({"prompt": prompt, "id": "mine"})
        connection.request("POST", "/v2/models/audio_flamingo/generate", body)
        reply = connection.getresponse()
        found = json.loads(reply.read())
        assert reply.status == status
        if status == 200:
            assert (found["text"], found["token_ids"], found["token_count"]) == ("la la la ", [0, 1, 2], 3)
            assert (found["finish_reason"], found["id"]) == ("stop", "mine")
        else:
            assert found["error"].startswith("UNAVAILABLE: a part of the server failed")


def test_a_unary_call_gets_the_whole_answer(door: Door) -> None:

    prompt = tritonclient.InferInput("prompt", [1], "BYTES")
    prompt.set_data_from_numpy(np.array([b"say=la |many=3"], np.object_))
    with tritonclient.InferenceServerClient(door.url) as client:
        found = client.infer("audio_flamingo", [prompt], request_id="mine")
        assert found.as_numpy("text")[0] == b"la la la "
        assert found.as_numpy("token_ids").tolist() == [0, 1, 2]
        assert found.get_response().id == "mine"
        bad = tritonclient.InferInput("prompt", [1], "BYTES")
        bad.set_data_from_numpy(np.array([b"error=INVALID_ARGUMENT: no"], np.object_))
        with pytest.raises(tritonclient.InferenceServerException, match=r"INVALID_ARGUMENT.* no"):
            client.infer("audio_flamingo", [bad])


def test_the_standard_health_service_answers(door: Door) -> None:

    def check(name: bytes = b"") -> bytes:
        with grpc.insecure_channel(door.url) as channel:
            request = b"\x0a" + bytes([len(name)]) + name if name else b""
            return channel.unary_unary("/grpc.health.v1.Health/Check")(request)

    assert check() == check(b"inference.GRPCInferenceService") == b"\x08\x01"
    with pytest.raises(grpc.RpcError) as unknown:
        check(b"else")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    with grpc.insecure_channel(door.url) as channel:
        states = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert next(states) == b"\x08\x01"
        door.admission.ready = False
        assert next(states) == b"\x08\x02"
        assert check() == b"\x08\x02"
        states.cancel()
    door.admission.ready = True
