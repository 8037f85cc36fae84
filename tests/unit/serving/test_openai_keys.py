"""API keys and quotas as OpenAI's own client meets them; Triton is a stand-in."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

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
