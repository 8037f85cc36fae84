"""/v1/chat/completions through OpenAI's own client, judged by its types; Triton is a stand-in."""

import asyncio
import base64
import json
from typing import Any

import numpy as np
import openai
import pytest

from serving.door.admission import Limits
from serving.door.door import Door
from tests.support.clips import clip
from tests.support.fake_triton import FakeTriton
from tests.support.openai_api import (
    CHAT,
    MODEL,
    asked,
    async_client,
    base64_of,
    body,
    client,
    inputs,
    post,
    request,
    user,
    valid_chunk,
    valid_completion,
)
from tests.support.scrape import wait_until
from tests.support.stand_in_door import door_before

HOST = "127.0.0.1"


def test_a_text_answer(door: Door) -> None:
    found = client(door).chat.completions.create(**body())
    assert found.choices[0].message.content == "hihihi"
    assert found.choices[0].finish_reason == "stop"
    assert found.usage.completion_tokens == 3
    assert found.model == MODEL
    reply = post(door, CHAT, body())
    valid_completion(reply.json)
    assert reply.json["id"] == f"chatcmpl-{reply.headers['x-request-id']}"


def test_a_streamed_text_answer(door: Door) -> None:
    stream = client(door).chat.completions.create(
        **body(), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "hihihi"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 3


def test_events_are_openais(door: Door) -> None:
    reply = post(door, CHAT, body(stream=True, stream_options={"include_usage": True}))
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.body.endswith(b"data: [DONE]\n\n")
    chunks = list(reply.events())
    for chunk in chunks:
        valid_chunk(chunk)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert deltas[1:] == [{"content": "hi"}] * 3 + [{}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * 4 + ["stop"]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 5
    assert all("usage" not in chunk for chunk in post(door, CHAT, body(stream=True)).events())


def test_thoughts_come_apart_from_the_answer(door: Door) -> None:
    (choice,) = post(door, CHAT, body("say=hi|muse=Well.")).json["choices"]
    assert (choice["message"]["content"], choice["message"]["reasoning_content"]) == ("hi", "Well.")
    deltas = [
        event["choices"][0]["delta"]
        for event in post(door, CHAT, body("say=hi|muse=Well.", stream=True)).events()
    ]
    assert deltas[1:] == [{"reasoning_content": "Well."}, {"content": "hi"}, {}]


def test_the_asynchronous_client(door: Door) -> None:
    async def ask() -> str:
        async with async_client(door) as asking:
            stream = await asking.chat.completions.create(**body(), stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(ask()) == "hihihi"


def test_clips_keep_their_places_in_messages_and_turns(triton: FakeTriton, door: Door) -> None:
    first, second, third = (clip(0.1, seed=seed) for seed in range(3))
    uri = "data:audio/wav;base64," + base64_of(third)
    messages = [
        {"role": "developer", "content": "Be brief."},
        user("First?", first),
        {"role": "assistant", "content": [{"type": "text", "text": "A bell."}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Is"},
                {"type": "input_audio", "input_audio": {"data": base64_of(second), "format": "mp3"}},
                {"type": "text", "text": "louder than"},
                {"type": "audio_url", "audio_url": {"url": uri}},
                {"type": "text", "text": "say=yes"},
            ],
        },
    ]
    client(door).chat.completions.create(model=MODEL, messages=messages)
    found = inputs(asked(triton))
    assert json.loads(found["messages"][0]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "First?"}]},
        {"role": "assistant", "content": "A bell."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Is"},
                {"type": "audio"},
                {"type": "text", "text": "louder than"},
                {"type": "audio"},
                {"type": "text", "text": "say=yes"},
            ],
        },
    ]
    assert [base64.b64decode(one.partition(b",")[2]) for one in found["audio"]] == [first, second, third]


def test_a_clip_of_megabytes_arrives_whole(triton: FakeTriton, door: Door) -> None:
    data = np.random.default_rng(1).bytes(3 << 20)
    client(door).chat.completions.create(model=MODEL, messages=[user("say=ok", data)])
    (found,) = inputs(asked(triton))["audio"]
    assert base64.b64decode(found.partition(b",")[2]) == data


def test_a_model_that_is_not_served(door: Door) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client(door).chat.completions.create(**{**body(), "model": "gpt-4o"})
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_paths_and_methods_that_are_not_served(door: Door) -> None:
    assert request(door, "GET", CHAT).status == 405
    assert request(door, "GET", CHAT).headers["allow"] == "POST"
    reply = request(door, "POST", "/v1/embeddings", b"{}")
    assert (reply.status, reply.error["type"]) == (404, "invalid_request_error")


def test_models(door: Door) -> None:
    found = [model.id for model in client(door).models.list()]
    assert found == ["audio_flamingo", "audio_flamingo_speech", "speech"]
    assert client(door).models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError) as refused:
        client(door).models.retrieve("gpt-4o")
    assert refused.value.code == "model_not_found"


def test_a_refusal_of_the_server_names_the_clients_field(door: Door) -> None:
    error = "error=in ensemble 'x', INVALID_ARGUMENT: audio[1]: no sound"
    reply = post(door, CHAT, {"model": MODEL, "messages": [user("a", b"1"), user(error, b"2")]})
    assert reply.status == 400
    assert reply.error["param"] == "messages[1].content[0].input_audio.data"
    assert reply.error["message"] == "audio[1]: no sound"
    error = "error=in ensemble 'x', INVALID_ARGUMENT: parameter 'top_p': too large"
    assert post(door, CHAT, body(error)).error["param"] == "top_p"


def test_a_failure_in_the_middle_is_the_last_event(door: Door) -> None:
    stream = client(door).chat.completions.create(**body("die=2|many=5"), stream=True)
    with pytest.raises(openai.APIError, match="a part of the server failed"):
        list(stream)
    reply = post(door, CHAT, body("die=2|many=5", stream=True))
    assert list(reply.events())[-1]["error"]["type"] == "server_error"
    assert b"[DONE]" not in reply.body


def test_a_full_server_says_when_to_come_back(triton: FakeTriton) -> None:
    limits = Limits(in_flight=1)
    with door_before(triton, limits) as door:
        stream = client(door).chat.completions.create(**body("forever"), stream=True)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as refused:
            client(door).chat.completions.create(**body())
        assert refused.value.code == "rate_limit_exceeded"
        assert int(refused.value.response.headers["retry-after"]) >= 1
        stream.close()
        wait_until(lambda: door.admission.in_flight == 0)
        door.admission.ready = False
        with pytest.raises(openai.InternalServerError) as starting:
            client(door).chat.completions.create(**body())
        assert starting.value.status_code == 503
        assert starting.value.response.headers["retry-after"] == "5"


def test_a_body_that_is_too_large(triton: FakeTriton) -> None:
    limits = Limits(message_bytes=1000)
    with door_before(triton, limits) as door:
        reply = post(door, CHAT, body("a" * 2000))
    assert (reply.status, reply.error["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_is_stopped(stream: bool, triton: FakeTriton, door: Door) -> None:
    before = set(triton.seen)
    connection_client = client(door, http_client=None).with_options(
        timeout=2
    )  # to have begun on a busy machine
    with pytest.raises(openai.APITimeoutError):
        if stream:
            events = connection_client.chat.completions.create(**body("wait|forever"), stream=True)
            list(events)
        else:
            connection_client.chat.completions.create(**body("forever"))
    (request_id,) = set(triton.seen) - before
    wait_until(lambda: triton.stops["llm", request_id] > 0)
    wait_until(lambda: door.admission.in_flight == 0)


def test_the_clients_own_id_is_kept(door: Door, tmp_path: Any) -> None:
    reply = post(door, CHAT, body(), {"X-Client-Request-Id": "mine-1"})
    assert reply.status == 200
    assert post(door, CHAT, body(), {"X-Client-Request-Id": "x" * 200}).status == 400
