"""The same request over gRPC and over HTTP, before the live server: one status, one sentence, one count."""

import base64
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.address import Ports
from serving.door.door import Door
from tests import faults
from tests.e2e.test_refusals import REFUSED
from tests.support import scrape
from tests.support.clips import clip
from tests.support.long_answer import LONG
from tests.support.two_protocols import PROTOCOLS, Address, Outcome, ask, leave

GREEDY = {"max_tokens": 12}


def uri(data: bytes) -> str:
    return "data:audio/wav;base64," + base64.b64encode(data).decode()


def both(door: Door, prompt: str | None, **options: Any) -> Outcome:
    """The answer of both protocols; fails if they differ."""
    grpc, http = (ask(protocol, door, prompt, **options) for protocol in PROTOCOLS)
    assert grpc == http
    return grpc


def counted(door: Door, status: str) -> float:
    return scrape.read(door)[f'af3_requests_total{{status="{status}"}}']


def counted_before(door: Door, status: str) -> float:
    scrape.settled(door)
    return counted(door, status)


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "no request id"])
def test_a_bad_request_is_refused_and_counted_alike(name: str, server: Door) -> None:
    request, cause = REFUSED[name]
    options = {**request.get("parameters", {}), "audio": [uri(file) for file in request.get("audio", ())]}
    if "messages" in request:
        options["messages"] = request["messages"]
    before = counted_before(server, "INVALID_ARGUMENT")
    found = both(server, request.get("prompt"), client_id=request.get("request_id", "mine"), **options)
    assert found.status == "INVALID_ARGUMENT"
    if name not in ("an empty file", "malformed JSON"):  # said of the base64 text; HTTP's own body is valid
        assert re.search(cause, found.sentence)
    scrape.wait_until(lambda: counted(server, "INVALID_ARGUMENT") == before + 2)


def test_an_answer_is_the_same_to_the_letter(server: Door) -> None:
    found = both(server, "What is it?", audio=[uri(clip(1, seed=4))], client_id="mine", **GREEDY)
    assert (found.status, found.client_id) == ("OK", "mine")
    stopped = both(server, "Go on.", stop=json.dumps([" "]), max_tokens=100, seed=1)
    assert stopped.status == "OK"


@pytest.mark.parametrize("timeout_us", [1, 60_000], ids=["before work starts", "while it runs"])
def test_a_deadline_is_kept_alike(timeout_us: int, server: Door) -> None:
    before = counted_before(server, "DEADLINE_EXCEEDED")
    for protocol in PROTOCOLS:
        found = ask(protocol, server, "Go on.", timeout=timeout_us, **LONG)
        assert found.status == "DEADLINE_EXCEEDED"
        assert found.sentence.startswith(f"not answered within {timeout_us / 1e6:g} s")
    scrape.wait_until(lambda: counted(server, "DEADLINE_EXCEEDED") == before + 2)
    scrape.wait_until(lambda: scrape.read(server)["af3_llm_running"] == 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_that_leaves_stops_the_llm(protocol: str, server: Door) -> None:
    before = counted_before(server, "CANCELLED")
    leave(protocol, server, "Go on.", **LONG)
    scrape.wait_until(lambda: counted(server, "CANCELLED") == before + 1)
    scrape.wait_until(lambda: scrape.read(server)["af3_llm_running"] == 0)
    scrape.wait_until(lambda: server.admission.in_flight == 0)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[faults.Launched]:
    folder: Path = tmp_path_factory.mktemp("both")
    server = faults.Launched(faults.serving_folder(folder), "--journal", str(folder / "journal"))
    yield server
    server.stop()


def test_a_step_that_dies_ends_the_answers_of_both_with_one_sentence(launched: faults.Launched) -> None:
    http_port = int(re.search(r"HTTP +http://\S+:(\d+)", launched.said())[1])
    address = Address(launched.url, "127.0.0.1", Ports(0, http_port, 0))
    found: dict[str, Outcome] = {}

    def client(protocol: str) -> None:
        """Until an answer fails: one may be complete before the step is killed."""
        while protocol not in found or found[protocol].status == "OK":
            found[protocol] = ask(protocol, address, "Go on.", **LONG)

    def running() -> float:
        return scrape.samples(launched.metrics)["af3_llm_running"]

    steps = launched.step("llm")
    threads = [threading.Thread(target=client, args=(protocol,)) for protocol in PROTOCOLS]
    for thread in threads:
        thread.start()
    scrape.wait_until(lambda: running() == 2)
    for pid in steps:
        os.kill(pid, signal.SIGKILL)
    for thread in threads:
        thread.join(60)
    said = {(outcome.status, outcome.sentence) for outcome in found.values()}
    assert len(found) == 2
    assert said == {
        ("UNAVAILABLE", "a part of the server failed and is being restarted; try again in a few seconds")
    }
    lines = [json.loads(line) for line in (launched.output.parent / "journal").read_text().splitlines()]
    ended = {(line["protocol"], line["status"]) for line in lines if line["event"] == "request"}
    assert {("grpc", "UNAVAILABLE"), ("http", "UNAVAILABLE")} <= ended
