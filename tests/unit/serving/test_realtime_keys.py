"""Realtime with API keys: who may open a session, and whose its answers are. Triton is a stand-in."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from websockets.exceptions import InvalidStatus

from serving.address import location
from tests.support.fake_triton import FakeTriton
from tests.support.guarded_door import Guarded, guarded_door
from tests.support.realtime_client import Talker

QUESTION = Path(__file__).parents[3] / "checkpoints" / "samples" / "question.wav"
HZ = 24_000


@pytest.fixture
def guarded(triton: FakeTriton, tmp_path: Path) -> Iterator[Guarded]:
    with guarded_door(triton, tmp_path) as made:
        yield made


def talker(guarded: Guarded, key: str | None = None, **options: object) -> Talker:
    headers = {} if key is None else {"additional_headers": {"Authorization": f"Bearer {key}"}}
    url = f"ws://{location(guarded.door.host, guarded.door.ports.http)}"
    return Talker(url, **headers, **options)


def test_a_session_needs_a_key(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    for key in (None, "wrong"):
        with pytest.raises(InvalidStatus) as refused, talker(guarded, key):
            pass
        assert refused.value.response.status_code == 401
        assert "www-authenticate" in refused.value.response.headers
    assert guarded.door.realtime.sessions == 0
    assert not caplog.records  # strangers do not write on the terminal


def test_a_page_gives_its_key_as_openais_does(guarded: Guarded) -> None:
    offered = ["realtime", f"openai-insecure-api-key.{guarded.key['alice']}"]
    with talker(guarded, subprotocols=offered) as session:
        assert session.socket.subprotocol == "realtime"
        session.update(output_modalities=["text"])
        session.say("say=la")
        session.until("response.done")
    assert guarded.counted('af3_key_requests_total{key="alice"}') == 1


def test_a_turn_that_a_pause_ends_is_its_own_sessions(guarded: Guarded) -> None:
    """The process that hears is started by the first session, and wakes all of them."""
    samples, hz = soundfile.read(QUESTION, always_2d=True)
    sound = soxr.resample(samples.mean(axis=1), hz, HZ)
    pcm = (32767 * np.concatenate([sound, np.zeros(2 * HZ)])).astype("<i2")
    with talker(guarded, guarded.key["alice"]), talker(guarded, guarded.key["bob"]) as second:
        second.update(output_modalities=["text"])
        second.append(pcm)
        second.until("response.done", 60)
    assert guarded.counted('af3_key_requests_total{key="bob"}') == 1
    assert guarded.counted('af3_key_requests_total{key="alice"}') == 0


def test_a_session_whose_key_is_revoked_is_answered_no_more(guarded: Guarded) -> None:
    with talker(guarded, guarded.key["alice"]) as session:
        session.update(output_modalities=["text"])
        guarded.change("alice", revoked=True)
        session.say("say=la")
        done = session.until("response.done")["response"]
        assert done["status"] == "failed"
        assert "revoked" in done["status_details"]["error"]["message"]
