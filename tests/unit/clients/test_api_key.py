"""Our clients and the health check bring the key that a server asks for."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients import AudioFlamingo, AudioFlamingoError
from clients.aio import AsyncAudioFlamingo
from serving.host.probe import examine
from tests.support.fake_triton import FakeTriton
from tests.support.guarded_door import Guarded, guarded_door


@pytest.fixture(scope="module")
def triton() -> Iterator[FakeTriton]:
    with FakeTriton() as fake:
        yield fake


@pytest.fixture
def guarded(triton: FakeTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    monkeypatch.delenv("AUDIO_FLAMINGO_API_KEY", raising=False)
    with guarded_door(triton, tmp_path) as made:
        yield made


def test_a_client_without_a_key_is_told_so(guarded: Guarded) -> None:
    with AudioFlamingo(guarded.door.url) as flamingo, pytest.raises(AudioFlamingoError) as refused:
        flamingo.ask([], "say=la").text()
    assert refused.value.status == "UNAUTHENTICATED"


def test_the_key_goes_with_every_call(guarded: Guarded) -> None:
    key = guarded.key["alice"]
    with AudioFlamingo(guarded.door.url, api_key=key) as flamingo:
        assert flamingo.ask([], "say=la").text() == "la"
        flamingo.stop_speech("any")

    async def ask() -> str:
        async with AsyncAudioFlamingo(guarded.door.url, api_key=key) as flamingo:
            return await flamingo.ask([], "say=la").text()

    assert asyncio.run(ask()) == "la"


def test_the_key_of_the_environment_is_taken(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIO_FLAMINGO_API_KEY", guarded.key["alice"])
    with AudioFlamingo(guarded.door.url) as flamingo:
        assert flamingo.ask([], "say=la").text() == "la"


def test_the_health_check_needs_no_key_and_uses_the_one_it_has(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert examine(guarded.door.url, 10).health == "answers"
    assert guarded.counted('af3_key_requests_total{key="alice"}') == 0
    monkeypatch.setenv("AUDIO_FLAMINGO_API_KEY", guarded.key["alice"])
    assert examine(guarded.door.url, 10).health == "answers"
    assert guarded.counted('af3_key_requests_total{key="alice"}') == 1
