"""API keys and quotas as OpenAI's own client meets them; Triton is a stand-in."""

import logging
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from serving.door.http_server import open_access_log
from tests.support.fake_triton import FakeTriton
from tests.support.guarded_door import Guarded, guarded_door
from tests.support.openai_api import base_url, body, post


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    with FakeTriton() as triton, guarded_door(triton, tmp_path) as made:
        yield made


def test_a_wrong_key_is_an_authentication_error(guarded: Guarded) -> None:
    asking = openai.OpenAI(base_url=base_url(guarded.door), api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as refused:
        asking.chat.completions.create(**body())
    assert refused.value.code == "invalid_api_key"
    reply = post(guarded.door, "/v1/chat/completions", body())
    assert (reply.status, reply.error["type"]) == (401, "invalid_request_error")


def test_a_right_key_is_answered(guarded: Guarded) -> None:
    asking = openai.OpenAI(
        base_url=base_url(guarded.door), api_key=next(iter(guarded.key.values())), max_retries=0
    )
    assert asking.chat.completions.create(**body()).choices[0].message.content == "hihihi"
    assert asking.models.retrieve("speech").id == "speech"


def test_a_spoken_answer_is_referred_to_by_the_key_that_asked_for_it_alone(guarded: Guarded) -> None:
    alice, bob = (
        openai.OpenAI(base_url=base_url(guarded.door), api_key=key, max_retries=0)
        for key in guarded.key.values()
    )
    sound = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    asked = body(text="say=a secret|big=640", **sound)
    spoken = alice.chat.completions.create(**asked).choices[0].message.audio
    user = {"role": "user", "content": "say=hi"}
    going_on = body(messages=[user, {"role": "assistant", "audio": {"id": spoken.id}}, user])
    assert alice.chat.completions.create(**going_on).choices
    with pytest.raises(openai.BadRequestError) as refused:
        bob.chat.completions.create(**going_on)
    assert refused.value.code == "audio_not_found"


def test_a_key_behind_the_path_does_not_reach_the_access_log(guarded: Guarded, tmp_path: Path) -> None:
    log = logging.getLogger("uvicorn.access")
    before = log.level, log.propagate
    open_access_log(tmp_path / "access")
    try:
        guarded.http(None, path="/v1/models?api_key=af3-secret", method="GET")
        (line,) = (tmp_path / "access").read_text().splitlines()
    finally:
        log.handlers.pop().close()
        log.level, log.propagate = before
    assert "/v1/models" in line
    assert line.endswith("401")
    assert "af3-secret" not in line
