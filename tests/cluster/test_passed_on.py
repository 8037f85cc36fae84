"""What Envoy passes on: API keys as they are, TLS on both sides, WebSockets."""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from websockets.exceptions import ConnectionClosed

from clients import AudioFlamingo, AudioFlamingoError
from clients.request import prompt_request
from clients.tls import Tls
from deploy.cluster import Cluster
from deploy.envoy import HOST
from deploy.loopback import wait_for
from serving.door.api_keys import ApiKey, KeyFile, hashed, new_key
from tests.support.cluster_traffic import answered_by, leads_elsewhere, post
from tests.support.engines import BuiltEngines
from tests.support.realtime_client import Talker
from tests.support.refusing_server import RefusingServer

KEY = "Bearer af3_not-a-real-key"
AMYS = new_key()


def by_http(cluster: Cluster) -> None:
    post(cluster, {"prompt": "?"}, headers={"Authorization": KEY})


def by_grpc(cluster: Cluster) -> None:
    request = service_pb2.ModelInferRequest(model_name="audio_flamingo")
    with grpc.insecure_channel(f"{HOST}:{cluster.ports.grpc}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError):  # it asks nothing, and is refused
            list(stub.ModelStreamInfer(iter([request]), metadata=(("authorization", KEY),), timeout=20))


def test_an_api_key_reaches_the_server_as_it_was_sent(cluster: Cluster) -> None:
    own = [server.ports for server in cluster.servers]
    with RefusingServer() as listening:

        def arrives(ask: Callable[[Cluster], None]) -> bool:
            """Not at once: each of Envoy's workers hears of a new list in its own time."""
            known = len(listening.headers)
            ask(cluster)
            return len(listening.headers) > known

        cluster.route_to([listening.ports])
        try:
            for ask in (by_http, by_grpc):
                assert wait_for(lambda ask=ask: arrives(ask), 20)
        finally:
            cluster.route_to(own)
    assert {headers["authorization"] for headers in listening.headers} == {KEY}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a Kubernetes Secret (tls.crt, tls.key, ca.crt), and another CA."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for ca in ("ca", "other"):
        openssl(
            "req",
            "-x509",
            *curve,
            "-days",
            "2",
            "-subj",
            f"/CN={ca}",
            "-keyout",
            f"{ca}.key",
            "-out",
            f"{ca}.crt",
        )
    (folder / "names").write_text(f"subjectAltName=IP:{HOST}")
    openssl("req", *curve, "-subj", "/CN=af3", "-keyout", "tls.key", "-out", "tls.csr")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "tls.csr", *signed, "-out", "tls.crt")
    return folder


@pytest.fixture(scope="module")
def encrypted(
    engines: BuiltEngines, certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder: Path = tmp_path_factory.mktemp("encrypted")
    (folder / "engines").symlink_to(engines.engines.parent)
    KeyFile(keys=(ApiKey(name="amy", sha256=hashed(AMYS)),)).write(folder / "keys.json")
    options = ("--api-keys", str(folder / "keys.json"))
    with Cluster(1, folder, extra=options, certificates=certificates) as running:
        yield running


def asked(url: str, certificates: Path, key: str | None) -> int:
    """The number of responses. Raises grpc.RpcError."""
    credentials = grpc.ssl_channel_credentials((certificates / "ca.crt").read_bytes())
    metadata = [("authorization", f"Bearer {key}")] if key else []
    with grpc.secure_channel(url, credentials) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = prompt_request("audio_flamingo", [], "What is it?", None, None, {"max_tokens": 4})
        return len(list(stub.ModelStreamInfer(iter([request]), metadata=metadata, timeout=30)))


def test_tls_is_spoken_on_both_sides_of_envoy_and_keys_pass(encrypted: Cluster, certificates: Path) -> None:
    url = f"{HOST}:{encrypted.ports.grpc}"
    assert asked(url, certificates, AMYS)
    for key in (None, new_key()):
        with pytest.raises(grpc.RpcError) as unknown:
            asked(url, certificates, key)
        assert unknown.value.code() is grpc.StatusCode.UNAUTHENTICATED
    for stranger in (Tls(certificates / "other.crt"), None):
        with AudioFlamingo(url, tls=stranger) as flamingo, pytest.raises(AudioFlamingoError) as refused:
            flamingo.ask([], "What is it?", max_tokens=4, timeout_s=10).text()
        assert refused.value.status == "UNAVAILABLE"
    ready = f"https://{HOST}:{encrypted.ports.http}/v2/health/ready"
    trusted = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    with urllib.request.urlopen(ready, context=trusted, timeout=10) as reply:
        assert reply.status == 200
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(
            ready, context=ssl.create_default_context(cafile=str(certificates / "other.crt")), timeout=10
        )


def talk(cluster: Cluster, session: str) -> Talker:
    return Talker(f"ws://{HOST}:{cluster.ports.http}", f"?model=any&session={session}")


def answered(talker: Talker, text: str) -> None:
    talker.say(text, output_modalities=["text"], max_output_tokens=4)
    assert talker.until("response.done", 60)["response"]["status"] in ("completed", "incomplete")


def test_a_realtime_session_passes_and_finds_its_server_again_by_its_name(cluster: Cluster) -> None:
    def one_turn(session: int) -> None:
        with talk(cluster, f"session-{session}") as talker:
            answered(talker, "Hello")

    def place_of(session: int) -> int:
        return answered_by(cluster, lambda: one_turn(session))

    first = place_of(0)
    assert place_of(0) == first
    assert leads_elsewhere(first, place_of)


def test_a_restarted_server_tells_its_sessions_to_reconnect_and_another_goes_on(cluster: Cluster) -> None:
    with ExitStack() as sessions:
        talkers: list[Talker] = []

        def begin() -> None:
            talkers.append(sessions.enter_context(talk(cluster, "moving")))
            answered(talkers[-1], "Hello")

        place = answered_by(cluster, begin)
        cluster.route_to([server.ports for server in cluster.servers if server is not cluster.servers[place]])
        cluster.servers[place].stop()
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                talkers[0].next(30)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "the server is shutting down")
        assert answered_by(cluster, begin) != place
    cluster.servers[place].start()
    cluster.servers[place].wait_until_ready()
    cluster.route_to([server.ports for server in cluster.servers])


def test_an_openai_answer_is_streamed_through(cluster: Cluster) -> None:
    body = {
        "model": "audio_flamingo",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "max_tokens": 4,
    }
    status, text, headers = post(cluster, body, path="/v1/chat/completions")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert json.loads(events[0])["object"] == "chat.completion.chunk"
    assert headers["x-af3-affinity"]
