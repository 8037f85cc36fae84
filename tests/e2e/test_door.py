"""The front door before the live server: who gets in, for how long, and what is told to the others.

Long because one behaviour a test, one live server.
"""

import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tritonclient import grpc as tritonclient

from af3 import contract
from clients import AudioFlamingo, AudioFlamingoError, Tls
from serving.address import Ports, claim
from serving.door import tls
from serving.door.admission import DEFAULT_LIMITS, Limits
from serving.door.door import Door, TritonAddress
from serving.host.probe import examine, health
from serving.host.triton import Server
from tests.support import scrape
from tests.support.clips import clip
from tests.support.long_answer import LONG
from tests.support.wire import Refused, Stream, ask, ids_of

HOST = "127.0.0.1"
INNER = [step.name for step in contract.AUDIO_FLAMINGO_SPEECH.steps]


@contextmanager
def door_before(triton: Server, limits: Limits = DEFAULT_LIMITS, certificates: tls.Tls | None = None):
    """A door on free ports; the Triton of all tests has no key."""
    with Door(
        TritonAddress(triton.ports, ""), HOST, claim(Ports(0, 0, 0), HOST), limits, certificates
    ) as door:
        door.admission.ready = True
        yield door


@pytest.fixture
def door(server: Door) -> Door:
    return server


def idle(door: Door) -> bool:
    found = scrape.read(door)
    return all(found[name] == 0 for name in ("af3_llm_running", "af3_llm_waiting", "af3_requests_in_flight"))


def curl(door: Door, path: str, *words: str) -> tuple[int, str]:
    command = ["curl", "--silent", "--max-time", "60", "--write-out", "\n%{http_code}", *words]
    done = subprocess.run(
        [*command, f"http://{HOST}:{door.ports.http}{path}"], capture_output=True, text=True, check=True
    )
    body, _, code = done.stdout.rpartition("\n")
    return int(code), body


def test_an_answer_through_the_door_is_the_answer(door: Door, triton: Server) -> None:
    request = {"audio": [clip(1, seed=7)], "prompt": "What is it?", "parameters": {"max_tokens": 40}}
    assert ask(door.url, **request)[-1].token_count
    assert ids_of(ask(door.url, **request)) == ids_of(ask(triton.url, **request))


@pytest.mark.parametrize("model", [*INNER, "no such model"])
def test_only_the_ensembles_can_be_asked(model: str, door: Door) -> None:
    with pytest.raises(Refused, match="is not served to clients; ask audio_flamingo or") as refused:
        ask(door.url, prompt="?", model=model)
    assert refused.value.status == "NOT_FOUND"
    assert curl(door, f"/v2/models/{model.replace(' ', '%20')}/generate_stream", "--data", "{}")[0] == 404


def test_shared_memory_model_control_and_settings_are_closed(door: Door, triton: Server) -> None:
    calls = {
        "shared memory": lambda client: client.register_system_shared_memory("x", "/x", 64),
        "model control": lambda client: client.unload_model("llm"),
        "repository": lambda client: client.get_model_repository_index(),
        "log settings": lambda client: client.update_log_settings({"log_verbose_level": 9}),
        "trace settings": lambda client: client.update_trace_settings(
            settings={"trace_level": ["TIMESTAMPS"]}
        ),
    }
    for address in (door.url, triton.url):  # Triton itself is closed to these too
        with tritonclient.InferenceServerClient(address) as client:
            for name, call in calls.items():
                with pytest.raises(tritonclient.InferenceServerException):
                    call(client)
                    pytest.fail(f"{name} is open at {address}")
    for path in (
        "/v2/repository/index",
        "/v2/systemsharedmemory/status",
        "/v2/logging",
        "/v2/models/llm/stats",
    ):
        assert curl(door, path)[0] == 404


def test_health_and_metadata_of_what_is_public_are_open(door: Door) -> None:
    with tritonclient.InferenceServerClient(door.url) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("audio_flamingo")
        assert {tensor.name for tensor in client.get_model_metadata("audio_flamingo").inputs} >= {"prompt"}
        assert client.get_model_config("llm").config.name == "llm"
        with pytest.raises(tritonclient.InferenceServerException, match="there is no model 'secret'"):
            client.get_model_config("secret")
    assert curl(door, "/v2/health/ready") == (200, "")
    assert health(door.url, 30) == "answers"


def test_http_answers_and_refuses_as_grpc_does(door: Door) -> None:
    def post(body: object) -> tuple[int, str]:
        return curl(door, "/v2/models/audio_flamingo/generate_stream", "--data", json.dumps(body))

    code, events = post({"id": "h1", "prompt": "What is it?", "max_tokens": 8})
    assert code == 200
    deltas = [json.loads(line[6:]) for line in events.splitlines() if line]
    assert [delta["index"] for delta in deltas] == list(range(len(deltas)))
    assert deltas[-1]["token_count"] == 8
    assert post({"prompt": "?", "max_tokens": 1})[0] == 200
    assert post([1])[0] == 400
    assert (
        curl(door, "/v2/models/audio_flamingo/generate", "--data", "{", "-H", "Transfer-Encoding: chunked")[0]
        == 400
    )


def test_two_clients_with_one_id_get_each_its_own_answer(door: Door) -> None:
    """And so does one without an id."""
    asked = {"Go on.": "mine", "Say more.": "mine", "And then?": ""}
    alone = {prompt: ids_of(ask(door.url, prompt=prompt, parameters=LONG)) for prompt in asked}
    with ThreadPoolExecutor(3) as pool:
        together = pool.map(
            lambda item: ask(door.url, prompt=item[0], request_id=item[1], parameters=LONG), asked.items()
        )
    assert [ids_of(answer) for answer in together] == list(alone.values())


def test_beyond_its_limit_it_refuses_at_once_and_says_when_to_retry(triton: Server) -> None:
    with door_before(triton, Limits(in_flight=2)) as small:
        one, _two = small.admission.enter(), small.admission.enter()
        with pytest.raises(Refused, match=r"2 requests are in flight.*try again in \d+ s") as refused:
            ask(small.url, prompt="One more.")
        assert refused.value.status == "UNAVAILABLE"
        one.release()
        assert ask(small.url, prompt="And now?", parameters={"max_tokens": 2})


@pytest.mark.parametrize("timeout_us", [1, 50_000], ids=["before work starts", "while it runs"])
def test_a_deadline_ends_the_answer_and_frees_its_slot(timeout_us: int, door: Door) -> None:
    with pytest.raises(Refused, match="not answered within") as refused:
        ask(door.url, prompt="Go on.", parameters={**LONG, "timeout": timeout_us})
    assert refused.value.status == "DEADLINE_EXCEEDED"
    scrape.wait_until(lambda: idle(door))


def test_cancelled_and_vanished_clients_free_their_slots(door: Door) -> None:
    def leave(place: int) -> None:
        stream = Stream(door.url, prompt="Go on.", parameters=LONG)
        next(iter(stream))
        stream.cancel() if place % 2 else stream.close()

    before = scrape.settled(door).get('af3_requests_cancelled_total{model="audio_flamingo"}', 0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(leave, range(24)))
    scrape.wait_until(lambda: idle(door))
    name = 'af3_requests_cancelled_total{model="audio_flamingo"}'
    scrape.wait_until(lambda: scrape.read(door).get(name, 0) == before + 24)


def test_real_status_codes_come_by_the_dozen_without_harm(door: Door) -> None:
    """Triton 2.51 itself crashes of this header within some dozens; the door never passes it on."""
    for _ in range(60):
        with pytest.raises(Refused) as refused:
            ask(door.url, prompt="?", parameters={"top_p": 1.5}, real_status=True)
        assert str(refused.value).startswith("INVALID_ARGUMENT: ")
    assert ask(door.url, prompt="?", parameters={"max_tokens": 2})


def test_a_client_that_reads_slowly_gets_everything_and_holds_up_nobody(door: Door) -> None:
    expected = ids_of(ask(door.url, prompt="Go on.", parameters=LONG))
    slow = iter(Stream(door.url, prompt="Go on.", parameters=LONG))
    read = [next(slow)]
    for _ in range(3):
        assert ask(door.url, prompt="Quick.", parameters={"max_tokens": 8})
        read.append(next(slow))
    assert ids_of([*read, *slow]) == expected


def test_speech_is_stopped_through_the_door_by_the_id_of_its_request(door: Door) -> None:
    with AudioFlamingo(door.url, contract.AUDIO_FLAMINGO_SPEECH.name) as flamingo:
        answer = flamingo.ask([], "Go on.", max_tokens=200)
        next(iter(answer))
        flamingo.stop_speech(answer.request_id)
        assert answer.text()


def test_who_is_inside_finishes_while_the_door_drains_and_nobody_enters(triton: Server) -> None:
    with door_before(triton) as draining:
        stream = Stream(draining.url, prompt="Go on.", parameters={**LONG, "max_tokens": 200})
        responses = iter(stream)
        next(responses)
        left: list[int] = []
        drain = threading.Thread(target=lambda: left.append(draining.drain(60)))
        drain.start()
        scrape.wait_until(lambda: draining.admission.draining)
        with pytest.raises(Refused, match="shutting down"):
            ask(draining.url, prompt="Late.")
        assert list(responses)[-1].finish_reason
        drain.join(60)
        assert left == [0]


def test_who_is_still_inside_when_time_is_up_is_told(triton: Server) -> None:
    with door_before(triton) as draining:
        stream = Stream(draining.url, prompt="Go on.", parameters=LONG)
        responses = iter(stream)
        next(responses)
        assert draining.drain(0.0) == 1
        with pytest.raises(Refused, match="the server shut down before the answer was complete"):
            list(responses)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a server's and a client's certificate of it, and a stranger's."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for ca in ("ca", "other-ca"):
        openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={ca}",
            "-keyout",
            f"{ca}.key",
            "-out",
            f"{ca}.pem",
        )
    (folder / "names").write_text(f"subjectAltName=IP:{HOST}")
    for name, ca in (("server", "ca"), ("client", "ca"), ("stranger", "other-ca")):
        openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
        )
        openssl(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            f"{ca}.pem",
            "-CAkey",
            f"{ca}.key",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            f"{name}.pem",
        )
    return folder


def refused_tls(door: Door, given: Tls | None) -> bool:
    try:
        with AudioFlamingo(door.url, tls=given) as flamingo:
            flamingo.ask([], "?", max_tokens=1, timeout_s=20).text()
    except AudioFlamingoError as error:
        assert error.status == "UNAVAILABLE"
        return True
    return False


def test_tls_lets_in_who_trusts_the_server(triton: Server, certificates: Path) -> None:
    own = tls.Tls(certificates / "server.pem", certificates / "server.key")
    with door_before(triton, certificates=own) as closed:
        with AudioFlamingo(closed.url, tls=Tls(certificates / "ca.pem")) as flamingo:
            assert flamingo.ask([], "What is it?", max_tokens=4).text()
        assert examine(closed.url, 30, Tls(certificates / "ca.pem")).health == "answers"
        assert refused_tls(closed, None)
        assert refused_tls(closed, Tls(certificates / "other-ca.pem"))
        words = [
            "--cacert",
            str(certificates / "ca.pem"),
            f"https://{HOST}:{closed.ports.http}/v2/health/ready",
        ]
        assert subprocess.run(["curl", "--silent", "--fail", *words], timeout=30, check=False).returncode == 0


def test_mutual_tls_lets_in_only_who_the_ca_has_signed(triton: Server, certificates: Path) -> None:
    ca = certificates / "ca.pem"
    own = tls.Tls(certificates / "server.pem", certificates / "server.key", ca)

    def as_(name: str) -> Tls:
        return Tls(ca, certificates / f"{name}.pem", certificates / f"{name}.key")

    with door_before(triton, certificates=own) as closed:
        assert not refused_tls(closed, as_("client"))
        assert refused_tls(closed, as_("stranger"))
        assert refused_tls(closed, Tls(ca))
        words = ["--cacert", str(ca), f"https://{HOST}:{closed.ports.http}/v2/health/ready"]
        assert subprocess.run(["curl", "--silent", "--fail", *words], timeout=30, check=False).returncode != 0


def test_the_histograms_count_what_passed(door: Door) -> None:
    scrape.wait_until(lambda: idle(door))
    before = scrape.settled(door)
    ask(door.url, [clip(0.5)], "What is it?", parameters={"max_tokens": 5})

    def more(name: str) -> float:
        return scrape.read(door)[name] - before.get(name, 0)

    scrape.wait_until(lambda: more('af3_requests_total{status="OK"}') == 1)
    assert more('af3_tokens_total{model="audio_flamingo"}') in range(1, 6)
    assert more("af3_time_to_first_token_seconds_count") == more("af3_request_duration_seconds_count") == 1
