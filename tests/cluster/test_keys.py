"""By what a request finds the server that knows its clip: our clients' key, a header, a query, a JSON body."""

import base64
import hashlib
import time
from collections.abc import Callable

import pytest

from clients import AudioFlamingo
from deploy.cluster import Cluster
from deploy.envoy import HOST
from deploy.loopback import wait_for
from tests.support.clips import clip, file_bytes, sound
from tests.support.cluster_traffic import (
    HITS,
    MISSES,
    affinity,
    answered_by,
    counted,
    home,
    leads_elsewhere,
    post,
)


def test_our_client_needs_no_key_to_be_sent_where_its_clip_was_heard(cluster: Cluster) -> None:
    clips = [clip(0.5, seed=5000 + number) for number in range(30)]
    with AudioFlamingo(f"{HOST}:{cluster.ports.grpc}") as flamingo:
        for one in clips:
            assert wait_for(cluster.idle, 30)
            assert flamingo.ask(one, "What is it?", max_tokens=4).text() is not None
        before = [(counted(server, HITS), counted(server, MISSES)) for server in cluster.servers]
        for one in clips:
            assert wait_for(cluster.idle, 30)
            flamingo.ask(one, "And now?", max_tokens=4).text()
    after = [(counted(server, HITS), counted(server, MISSES)) for server in cluster.servers]
    hits, misses = (
        sum(now[place] - old[place] for now, old in zip(after, before, strict=True)) for place in (0, 1)
    )
    print(f"hits {hits:.0f}, misses {misses:.0f}")
    assert hits / (hits + misses) >= 0.95


def bodies(number: int, **more: object) -> list[dict[str, object]]:
    """Different questions of one sender."""
    return [
        {"prompt": f"Question {turn} of {number}: what is it?", "max_tokens": 2, **more} for turn in range(3)
    ]


def places(cluster: Cluster, questions: list[dict[str, object]], query: str = "") -> set[int]:
    def one(body: dict[str, object]) -> None:
        status, text, _ = post(cluster, body, query)
        assert status == 200, text

    return {answered_by(cluster, lambda body=body: one(body)) for body in questions}


@pytest.mark.parametrize("name", ["session", "prompt_cache_key"])
def test_questions_with_one_query_key_find_one_server(cluster: Cluster, name: str) -> None:
    found = [places(cluster, bodies(number), f"?{name}=user-{number}") for number in range(6)]
    assert all(len(one) == 1 for one in found), found

    def place_of(number: int) -> int:
        return places(cluster, bodies(number)[:1], f"?{name}=user-{number}").pop()

    assert leads_elsewhere(min(found[0]), place_of)


def test_questions_with_one_clip_in_a_small_json_body_find_one_server(cluster: Cluster) -> None:
    def asked(number: int) -> list[dict[str, object]]:
        audio = base64.b64encode(clip(0.5, seed=6000 + number)).decode()
        return bodies(number, audio=f"data:audio/wav;base64,{audio}")

    found = [places(cluster, asked(number)) for number in range(6)]
    assert all(len(one) == 1 for one in found), found
    assert leads_elsewhere(min(found[0]), lambda number: places(cluster, asked(number)[:1]).pop())


def test_the_key_of_an_answer_brings_the_next_question_of_a_large_body_to_one_server(
    cluster: Cluster,
) -> None:
    audio = base64.b64encode(clip(10.0, seed=6100)).decode()
    assert len(audio) > 262_144
    body = {"prompt": "What is it?", "max_tokens": 2, "audio": audio}
    status, text, headers = post(cluster, body)
    assert status == 200, text
    key = headers["x-af3-affinity"]
    found = {
        answered_by(cluster, lambda: post(cluster, body, headers={"x-af3-affinity": key})) for _ in range(3)
    }
    assert len(found) == 1


def test_the_key_that_envoy_made_of_a_body_comes_back_and_leads_there_too(cluster: Cluster) -> None:
    body = {"prompt": "Where am I?", "max_tokens": 2}
    (place,) = places(cluster, [body, body])
    key = post(cluster, body)[2]["x-af3-affinity"]
    other = {"prompt": "And now?", "max_tokens": 2}
    assert answered_by(cluster, lambda: post(cluster, other, headers={"x-af3-affinity": key})) == place


def test_one_key_finds_one_server_over_grpc_and_http(cluster: Cluster) -> None:
    keys = [f"either-{number}" for number in range(12)]
    by_grpc = [home(cluster, key) for key in keys]
    body = {"prompt": "Hello", "max_tokens": 2}
    by_http = [
        answered_by(cluster, lambda key=key: post(cluster, body, headers={"x-af3-affinity": key}))
        for key in keys
    ]
    assert by_http == by_grpc
    assert len(set(by_grpc)) > 1


def test_a_clip_of_20_mb_is_uploaded_once(cluster: Cluster) -> None:
    file = file_bytes(sound(109.0, 48_000, 2, seed=6200), 48_000)
    assert len(file) > 20e6

    def spent(act: Callable[[], object]) -> tuple[float, float]:
        """Bytes that Envoy has received, and seconds."""
        names = [f"http.{protocol}.downstream_cx_rx_bytes_total" for protocol in ("grpc", "http")]
        before, started_s = cluster.stats(), time.monotonic()
        act()
        seconds, after = time.monotonic() - started_s, cluster.stats()
        return sum(after[name] - before[name] for name in names), seconds

    with AudioFlamingo(f"{HOST}:{cluster.ports.grpc}", by_hash=True) as flamingo:
        uses = [spent(lambda: flamingo.ask(file, "What is it?", max_tokens=2).text()) for _ in range(3)]
    print("gRPC: " + ", ".join(f"{count / 1e6:.3f} MB in {seconds:.2f} s" for count, seconds in uses))
    assert uses[0][0] > 20e6
    assert max(count for count, _ in uses[1:]) < 100e3

    body = {"prompt": "What is it?", "max_tokens": 2, "audio": f"sha256:{hashlib.sha256(file).hexdigest()}"}
    key = {"x-af3-affinity": affinity(file)}
    replies: list[int] = []
    by_name = spent(lambda: replies.append(post(cluster, body, headers=key)[0]))
    print(f"HTTP, after gRPC: {by_name[0] / 1e6:.3f} MB in {by_name[1]:.2f} s")
    assert replies == [200]
    assert by_name[0] < 100e3
