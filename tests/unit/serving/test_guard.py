"""With a file of keys nobody asks without one: every route, every method, every protocol. Triton is a stand-in."""

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from starlette.routing import BaseRoute, Mount, WebSocketRoute
from tritonclient.grpc import service_pb2, service_pb2_grpc
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from serving import journal
from serving.address import Ports, claim
from serving.door.api_keys import KeyFile, KeyFileError, hashed, new_key, utc_now
from serving.door.door import Door, TritonAddress
from serving.door.upstream import SERVICE
from tests.support.fake_triton import FakeTriton
from tests.support.guarded_door import GENERATE, Guarded, bearer, guarded_door, request_of
from tests.support.scrape import wait_until

HOST = "127.0.0.1"
OPEN = {"/v2/health/live", "/v2/health/ready", "/", "/icon.svg"}


@pytest.fixture
def guarded(triton: FakeTriton, tmp_path: Path) -> Iterator[Guarded]:
    with guarded_door(triton, tmp_path) as made:
        yield made


def flat(routes: list[BaseRoute], before: str = "") -> Iterator[tuple[str, BaseRoute]]:
    for route in routes:
        path = before + getattr(route, "path", "")
        if isinstance(route, Mount) and route.routes:
            yield from flat(list(route.routes), path)
        else:
            yield path, route


def test_every_route_but_health_and_the_page_asks_for_a_key(guarded: Guarded) -> None:
    seen = set()
    for path, route in flat(guarded.door.http.routes):
        seen.add(path)
        whole = re.sub(r"\{model\}", "audio_flamingo", path)
        whole = re.sub(r"\{\w+(:\w+)?\}", "x", whole) or "/"
        if isinstance(route, WebSocketRoute):
            with (
                pytest.raises(InvalidStatus) as refused,
                connect(f"ws://{HOST}:{guarded.door.ports.http}{whole}"),
            ):
                pass
            assert refused.value.response.status_code == 401, path
            continue
        for method in getattr(route, "methods", None) or {"GET", "POST"}:
            status, headers, body = guarded.http(None, method, whole)
            if path in OPEN or path.startswith("/assets/"):
                assert status == 200, path
                assert guarded.http(None, "POST", whole)[0] == 401, path
                continue
            assert status == 401, path
            assert headers["www-authenticate"].startswith("Bearer")
            assert method == "HEAD" or "this server asks for an API key" in str(json.loads(body)["error"])
    assert {"/v1/realtime", GENERATE.replace("audio_flamingo", "{model}")} | OPEN < seen
    assert guarded.http(None, "GET", "/no/such/path")[0] == 401
    assert guarded.http(None, "GET", "/assets/../v2")[0] in (401, 404)


def test_every_grpc_method_but_health_asks_for_a_key(guarded: Guarded) -> None:
    methods = [
        method.name for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    ]
    with grpc.insecure_channel(guarded.door.url) as channel:

        def call(path: str) -> str:
            try:
                if path.endswith("ModelStreamInfer"):
                    list(channel.stream_stream(path)(iter([b""]), timeout=10))
                else:
                    channel.unary_unary(path)(b"", timeout=10)
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"

        found = {method: call(f"{SERVICE}{method}") for method in methods}
        assert call("/grpc.health.v1.Health/Check") == "OK"
    open_ones = {method for method, status in found.items() if status == "OK"}
    assert open_ones == {"ServerLive", "ServerReady"}
    assert set(found.values()) <= {"OK", "UNAUTHENTICATED", "UNIMPLEMENTED"}
    assert {"ModelInfer", "ModelStreamInfer", "ModelConfig", "ServerMetadata"} <= {
        method for method, status in found.items() if status == "UNAUTHENTICATED"
    }


def test_a_key_lets_in_over_both_protocols_and_is_counted_by_its_name(
    guarded: Guarded, tmp_path: Path
) -> None:
    lines = tmp_path / "journal"
    journal.open_at(lines)
    try:
        assert guarded.http(guarded.key["alice"])[0] == 200
        assert guarded.grpc(guarded.key["alice"]) == "OK"
        assert guarded.counted('af3_key_requests_total{key="alice"}') == 2
        assert guarded.counted('af3_key_requests_total{key="bob"}') == 0
        assert guarded.http("wrong")[0] == 401
        wait_until(lambda: len(lines.read_text().splitlines()) == 3)
    finally:
        del journal.os.environ[journal.VARIABLE]
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [line.get("key") for line in written] == ["alice", "alice", ""]
    assert written[-1]["why"] == "wrong key"
    assert guarded.key["alice"] not in lines.read_text()


WRONG: dict[str, tuple[Callable[[Guarded], str | None], str, str]] = {
    "no key": (lambda guarded: None, "no key", "asks for an API key"),
    "a wrong key": (lambda guarded: new_key(), "wrong key", "not known here"),
    "a key cut short": (lambda guarded: guarded.key["alice"][:-1], "wrong key", "not known here"),
    "a hash for a key": (lambda guarded: hashed(guarded.key["alice"]), "wrong key", "not known here"),
    "an expired key": (lambda guarded: changed(guarded, expires=utc_now()), "expired", "'alice' has expired"),
    "a revoked key": (lambda guarded: changed(guarded, revoked=True), "revoked", "'alice' is revoked"),
}


def changed(guarded: Guarded, **values: Any) -> str:
    guarded.change("alice", **values)
    return guarded.key["alice"]


@pytest.mark.parametrize("name", WRONG)
def test_who_has_no_valid_key_is_refused_counted_and_told_why(name: str, guarded: Guarded) -> None:
    make, why, said = WRONG[name]
    key = make(guarded)
    status, _, body = guarded.http(key)
    assert (status, said in json.loads(body)["error"]) == (401, True)
    assert guarded.grpc(key) == "UNAUTHENTICATED"
    assert guarded.counted(f'af3_callers_refused_total{{why="{why}"}}') == 2
    assert guarded.grpc(guarded.key["bob"]) == "OK"


def test_a_file_that_became_wrong_changes_nothing(guarded: Guarded) -> None:
    guarded.file.write_text("{")
    with pytest.raises(KeyFileError):
        guarded.door.reload()
    assert guarded.grpc(guarded.key["alice"]) == "OK"


def test_a_key_that_is_gone_from_the_file_is_refused_even_on_an_open_stream(guarded: Guarded) -> None:
    request = request_of("say=hi", "mine")
    gone = threading.Event()

    def requests() -> Iterator[Any]:
        yield request
        gone.wait(10)
        yield request

    with grpc.insecure_channel(guarded.door.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelStreamInfer(requests(), metadata=bearer(guarded.key["alice"]), timeout=30)
        assert next(call).infer_response.outputs
        kept = KeyFile.read(guarded.file)
        KeyFile(keys=tuple(key for key in kept.keys if key.name != "alice")).write(guarded.file)
        guarded.door.reload()
        gone.set()
        errors = [message.error_message for message in call if message.error_message]
    assert errors == ["UNAUTHENTICATED: API key 'alice' is revoked; ask the operator for another"]


def test_an_answer_of_one_key_is_not_stopped_by_another_on_the_same_connection(guarded: Guarded) -> None:
    with grpc.insecure_channel(guarded.door.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = request_of("forever", "shared")
        call = stub.ModelStreamInfer(iter([request]), metadata=bearer(guarded.key["alice"]), timeout=30)
        next(call)
        stop = service_pb2.ModelInferRequest(model_name="llm", id="shared")
        stop.inputs.add(name="stop", datatype="BOOL", shape=[1])
        stop.raw_input_contents.append(b"\x01")
        list(stub.ModelStreamInfer(iter([stop]), metadata=bearer(guarded.key["bob"]), timeout=30))
        assert guarded.counted('af3_stops_total{found="no"}') == 1
        assert guarded.door.admission.in_flight == 1
        list(stub.ModelStreamInfer(iter([stop]), metadata=bearer(guarded.key["alice"]), timeout=30))
        assert guarded.counted('af3_stops_total{found="yes"}') == 1
        assert list(call)


def test_the_answer_to_a_preflight_needs_no_key(triton: FakeTriton, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    KeyFile().write(file)
    page = "https://voice.example"
    ports = claim(Ports(0, 0, 0), HOST)
    with Door(TritonAddress(triton.ports, ""), HOST, ports, origins=[page], api_keys=file) as door:
        connection = http.client.HTTPConnection(HOST, door.ports.http, timeout=30)
        headers = {"Origin": page, "Access-Control-Request-Method": "POST"}
        headers["Access-Control-Request-Headers"] = "authorization"
        connection.request("OPTIONS", GENERATE, headers=headers)
        reply = connection.getresponse()
        assert reply.status == 200
        assert "authorization" in reply.getheader("access-control-allow-headers").lower()
        connection.close()


def test_a_key_expires_while_the_server_runs(guarded: Guarded) -> None:
    guarded.change("alice", expires=utc_now() + timedelta(seconds=0.5))
    wait_until(lambda: guarded.grpc(guarded.key["alice"]) == "UNAUTHENTICATED")
