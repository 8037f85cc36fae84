"""A clip that the server has is named by its SHA-256; one that it has not is asked for."""

import asyncio
import base64
import hashlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from clients import AsyncAudioFlamingo, AudioFlamingo, AudioFlamingoError
from serving.door.admission import Limits
from serving.door.api_keys import ApiKey, KeyFile, hashed, new_key
from serving.door.clip_store import ClipStore, elements
from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.scrape import wait_until
from tests.support.stand_in_door import door_before
from tests.support.two_protocols import ask as ask_plainly

LIMITS = Limits(message_bytes=4 << 20, upload_bytes=8 << 20, clip_store_bytes=3 << 20)


def clip(size: int, seed: int = 0) -> bytes:
    return b"RIFF" + np.random.default_rng(seed).bytes(size - 4)


def name_of(file: bytes) -> str:
    return f"sha256:{hashlib.sha256(file).hexdigest()}"


@pytest.fixture
def door(own_triton: FakeTriton) -> Iterator[Door]:
    with door_before(own_triton, LIMITS) as made:
        yield made


def heard(own_triton: FakeTriton) -> list[list[bytes]]:
    """The clips of every request that Triton has seen."""
    return [
        [bytes(clip) for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True)
         if tensor.name == "audio" for clip in elements(content)]
        for request in own_triton.seen.values()
    ]  # fmt: skip


def counted(door: Door, name: str) -> float:
    return next(
        float(line.rpartition(" ")[2])
        for line in door.metrics.text().splitlines()
        if line.startswith(f"{name} ")
    )


def asked_by_client(door: Door, clips: Any, **options: Any) -> str:
    with AudioFlamingo(door.url, by_hash=True) as flamingo:
        return flamingo.ask(clips, "say=hi", **options).text()


def asked_by_asyncio(door: Door, clips: Any, **options: Any) -> str:
    async def ask() -> str:
        async with AsyncAudioFlamingo(door.url, by_hash=True) as flamingo:
            return await flamingo.ask(clips, "say=hi", **options).text()

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [asked_by_client, asked_by_asyncio])
def test_a_large_clip_is_sent_once_and_heard_every_time(door, own_triton, ask):
    large, small = clip(1 << 20), clip(1000, 1)
    for _ in range(3):
        assert ask(door, [large, small]) == "hi"
    assert heard(own_triton) == [[large, small]] * 3
    assert counted(door, 'af3_named_clips_total{found="no"}') == 1
    assert counted(door, 'af3_named_clips_total{found="yes"}') == 2
    received = counted(door, 'af3_request_bytes_total{model="audio_flamingo"}')
    assert (1 << 20) < received < (1 << 20) + 10_000


def post(door: Door, body: dict[str, Any], keep: bool = False, key: str = "") -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(door.host, door.ports.http, timeout=20)
    headers = {"x-af3-keep-clips": "true"} if keep else {}
    headers |= {"authorization": f"Bearer {key}"} if key else {}
    connection.request("POST", "/v2/models/audio_flamingo/generate", json.dumps(body), headers)
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def test_over_http_412_asks_for_the_clip_and_base64_is_kept_by_the_hash_of_the_file(door, own_triton):
    file = clip(200_000)
    body = {"prompt": "say=hi", "audio": name_of(file)}
    status, found = post(door, body)
    assert status == 412
    assert found["error"] == (
        f"FAILED_PRECONDITION: audio[0]: the clip {name_of(file)} is not here; send the file, with"
        " `x-af3-keep-clips: true` to have it kept"
    )
    uri = "data:audio/wav;base64," + base64.b64encode(file).decode()
    assert post(door, {**body, "audio": uri}, keep=True)[0] == 200
    assert post(door, body)[0] == 200
    assert heard(own_triton)[-1] == [file]
    with AudioFlamingo(door.url, by_hash=True) as flamingo:  # what came over HTTP is found over gRPC
        flamingo.ask(file, "say=hi").text()
    assert heard(own_triton)[-1] == [file]
    assert counted(door, 'af3_named_clips_total{found="no"}') == 1


def test_nothing_is_kept_that_nobody_asked_to_keep(door):
    file = clip(200_000)
    with AudioFlamingo(door.url) as flamingo:
        flamingo.ask(file, "say=hi").text()
    assert post(door, {"prompt": "say=hi", "audio": name_of(file)})[0] == 412
    assert counted(door, "af3_kept_clip_bytes") == 0


def test_a_name_has_the_key_of_its_clip(door):
    file = clip(200_000)
    post(
        door,
        {"prompt": "say=hi", "audio": "data:audio/wav;base64," + base64.b64encode(file).decode()},
        keep=True,
    )
    connection = http.client.HTTPConnection(door.host, door.ports.http, timeout=20)
    body = json.dumps({"prompt": "say=hi", "audio": name_of(file)})
    connection.request("POST", "/v2/models/audio_flamingo/generate", body)
    assert connection.getresponse().getheader("x-af3-affinity") == hashlib.sha256(file).hexdigest()[:16]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_many_names_of_one_clip_are_no_way_past_the_limit_of_a_request(door, protocol):
    file = clip(1 << 20)
    asked_by_client(door, file)
    before = door.relay.uploads.bytes
    found = ask_plainly(protocol, door, "say=hi", audio=[name_of(file)] * 5)
    assert found.status == "RESOURCE_EXHAUSTED"
    assert "the named clips have more than 4194304 bytes together" in found.sentence
    wait_until(lambda: door.relay.uploads.bytes == before == 0)
    assert ask_plainly(protocol, door, "say=hi", audio=[name_of(file)] * 3).status == "OK"
    wait_until(lambda: door.relay.uploads.bytes == 0)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_refused_name_holds_no_memory(door, protocol):
    assert ask_plainly(protocol, door, "say=hi", audio=[name_of(b"x")]).status == "FAILED_PRECONDITION"
    wait_until(lambda: (door.relay.uploads.bytes, door.relay.uploads.count) == (0, 0))


@pytest.mark.parametrize("bad", ["sha256:", "sha256:" + "g" * 64, "sha256:" + "A" * 64, "sha256:" + "0" * 65])
def test_text_that_is_no_clip_name_is_passed_on_unchanged(door, own_triton, bad):
    assert ask_plainly("grpc", door, "say=hi", audio=[bad]).status == "OK"
    assert heard(own_triton)[-1] == [bad.encode()]


def test_an_answer_by_name_that_is_cancelled_is_not_asked_again(door, own_triton):
    with AudioFlamingo(door.url, by_hash=True) as flamingo:
        answer = flamingo.ask(clip(100_000), "forever")
        answer.cancel()
        with pytest.raises(AudioFlamingoError) as ended:
            answer.text()
    assert ended.value.status == "CANCELLED"
    assert heard(own_triton) == []


def test_a_cancelled_answer_ends_as_cancelled_even_if_the_server_has_asked_for_the_clip(door, own_triton):
    """Seen on a busy machine: the server had asked for the clip, and the client was told so instead."""
    with AudioFlamingo(door.url, by_hash=True) as flamingo:
        answer = flamingo.ask(clip(100_000), "forever")
        wait_until(lambda: not answer._call._call.is_active())
        answer.cancel()
        with pytest.raises(AudioFlamingoError, match="cancelled after 0 tokens") as ended:
            answer.text()
    assert ended.value.status == "CANCELLED"
    assert heard(own_triton) == []


def test_only_a_missing_clip_makes_the_client_send_it(door, own_triton):
    file = clip(100_000)
    assert asked_by_client(door, file) == "hi"
    with (
        AudioFlamingo(door.url, by_hash=True) as flamingo,
        pytest.raises(AudioFlamingoError, match="queue is full"),
    ):
        flamingo.ask(file, "error=UNAVAILABLE: the queue is full").text()
    assert len(own_triton.seen) == 2


def digests(*clips: bytes) -> list[tuple[str, bytes]]:
    return [(hashlib.sha256(one).hexdigest(), one) for one in clips]


def test_the_store_is_bounded_and_forgets_what_was_named_longest_ago():
    store = ClipStore(1000)
    (a, b, c) = digests(clip(400, 1), clip(400, 2), clip(400, 3))
    store.keep("", [a, b])
    assert store.find("", a[0]) == a[1]
    store.keep("", [c])
    assert [store.find("", one[0]) is None for one in (a, b, c)] == [False, True, False]
    assert store.bytes == 800
    store.keep("", digests(clip(1001, 4)))
    assert store.bytes == 800


def test_no_key_finds_the_clips_of_another():
    store = ClipStore(1000)
    (a,) = digests(clip(400, 1))
    store.keep("amy", [a])
    assert store.find("ben", a[0]) is None
    assert store.find("", a[0]) is None


def test_who_fills_the_store_loses_their_own_clips():
    store = ClipStore(1000)
    (a,) = digests(clip(300, 1))
    store.keep("amy", [a])
    store.keep("ben", digests(*(clip(200, seed) for seed in range(2, 9))))
    assert store.find("amy", a[0]) == a[1]
    assert store.bytes <= 1000


@pytest.mark.parametrize("names", ["own", "another's"])
def test_a_kept_clip_is_found_by_the_key_that_sent_it_alone(own_triton, tmp_path, names):
    keys = {name: new_key() for name in ("amy", "ben")}
    file = tmp_path / "keys.json"
    KeyFile(keys=tuple(ApiKey(name=name, sha256=hashed(key)) for name, key in keys.items())).write(file)
    kept = clip(100_000)
    with door_before(own_triton, LIMITS, api_keys=file) as door:
        uri = "data:audio/wav;base64," + base64.b64encode(kept).decode()
        assert post(door, {"prompt": "say=hi", "audio": uri}, True, keys["amy"])[0] == 200
        asking = keys["amy" if names == "own" else "ben"]
        status, _ = post(door, {"prompt": "say=hi", "audio": name_of(kept)}, False, asking)
        assert status == (200 if names == "own" else 412)


def test_a_server_that_keeps_nothing_says_so_every_time(own_triton):
    limits = Limits(clip_store_bytes=0)
    with door_before(own_triton, limits) as door:
        for _ in range(2):
            assert asked_by_client(door, clip(100_000)) == "hi"
        assert counted(door, 'af3_named_clips_total{found="no"}') == 2
