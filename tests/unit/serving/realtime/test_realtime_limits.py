"""Sessions come to an end and leave nothing: left alone, too many, too much, not reading, at shutdown."""

import json
import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.uri import parse_uri

from serving.door import stall_watch
from serving.door.door import Door
from serving.door.realtime import sound_worker
from serving.door.realtime.realtime_limits import RealtimeLimits
from tests.support.fake_triton import FakeTriton
from tests.support.realtime_client import Talker
from tests.support.realtime_door import address, door_before, messages, quiet, voice
from tests.support.scrape import wait_until

# Speech is heard, and neither answered nor does it interrupt.
LISTENS = {"type": "server_vad", "create_response": False, "interrupt_response": False}
ENDLESS = "say=word |forever|big=8820|hz=22050"


def nothing_left(door: Door) -> bool:
    return door.realtime.sessions == 0 and door.realtime.audio_bytes == 0 and door.admission.in_flight == 0


def closed(limits: RealtimeLimits, triton: FakeTriton, act: Callable[[Talker], None]) -> tuple[int, str]:
    """How a session ends under these limits, and that it leaves nothing."""
    with door_before(triton, limits) as door:
        with Talker(address(door)) as talker:
            act(talker)
            found = talker.closed()
            wait_until(lambda: nothing_left(door))
            wait_until(lambda: triton.live == 0)
        return found


def test_a_session_left_alone_is_closed_and_leaves_nothing(triton: FakeTriton) -> None:
    def leave(talker: Talker) -> None:
        talker.update(audio={"input": {"turn_detection": LISTENS}})
        talker.append(voice())
        talker.say(ENDLESS)
        talker.until("response.output_audio.delta")

    assert closed(RealtimeLimits(idle_s=0.5), triton, leave) == (1000, "nothing was sent for 0.5 s")


def test_a_session_ends_after_its_longest_time(triton: FakeTriton) -> None:
    found = closed(RealtimeLimits(session_s=0.5), triton, lambda talker: talker.say(ENDLESS))
    assert found == (1000, "a session lasts at most 0.5 s")


def test_a_client_that_leaves_in_the_middle_leaves_nothing(door: Door, triton: FakeTriton) -> None:
    with Talker(address(door)) as talker:
        talker.update(audio={"input": {"turn_detection": LISTENS}})
        talker.append(voice())
        talker.say(ENDLESS)
        talker.until("response.output_audio.delta")
        talker.socket.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: nothing_left(door))
    wait_until(lambda: triton.live == 0)


def test_one_session_too_many_is_refused_with_a_time_to_wait(triton: FakeTriton) -> None:
    with (
        door_before(triton, RealtimeLimits(sessions=2)) as door,
        Talker(address(door)),
        Talker(address(door)),
        pytest.raises(InvalidStatus) as refused,
        Talker(address(door)),
    ):
        pass
    response = refused.value.response
    assert (response.status_code, response.headers["retry-after"]) == (503, "10")
    error = json.loads(response.body)["error"]
    assert error["message"] == "2 sessions are open, the most that are accepted; try again in 10 s"


@pytest.mark.parametrize("answering", [False, True])
def test_at_shutdown_a_session_ends_with_its_answer(answering: bool, triton: FakeTriton) -> None:
    with door_before(triton) as door, Talker(address(door)) as talker:
        if answering:
            talker.say("wait|say=done")
            talker.until("response.created")
            wait_until(lambda: triton.live == 1)
        draining = threading.Thread(target=door.drain, args=(20,))
        draining.start()
        if answering:
            with pytest.raises(InvalidStatus), Talker(address(door)):
                pass
            triton.go()
            assert talker.until("response.done")["response"]["status"] == "completed"
        assert talker.closed() == (1001, "the server is shutting down")
        draining.join()
        triton.hold()
        wait_until(lambda: nothing_left(door))


def test_a_door_that_closes_ends_sessions_that_answer_without_end(triton: FakeTriton) -> None:
    door = door_before(triton)
    with Talker(address(door)) as talker:
        talker.say(ENDLESS)
        talker.until("response.output_audio.delta")
        closing = threading.Thread(target=door.close)
        closing.start()
        assert talker.closed()[0] == 1001
        closing.join()
    wait_until(lambda: triton.live == 0)


def test_pages_of_others_cannot_open_a_session(triton: FakeTriton) -> None:
    with door_before(triton, origins=["https://voice.example"]) as door:
        with pytest.raises(InvalidStatus) as refused, Talker(address(door), origin="https://evil.example"):
            pass
        assert refused.value.response.status_code == 403
        assert b"--allow-origin" in refused.value.response.body
        with Talker(
            address(door), origin="https://voice.example", subprotocols=["realtime", "x.key"]
        ) as talker:
            assert talker.socket.subprotocol == "realtime"


def test_a_request_without_an_upgrade_is_told_what_to_do(door: Door) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address(door).replace("ws:", "http:") + "/v1/realtime")
    assert refused.value.code == 426
    assert "connect with ws://" in json.load(refused.value)["error"]["message"]


def test_sound_beyond_the_limit_is_refused_and_old_sound_makes_room(triton: FakeTriton) -> None:
    second = quiet(1).tobytes()
    with door_before(triton, RealtimeLimits(session_bytes=3 * len(second))) as door:
        with Talker(address(door)) as talker:
            talker.update(output_modalities=["text"], audio={"input": {"turn_detection": None}})
            for _ in range(5):
                talker.append(second)
                talker.send("input_audio_buffer.commit")
                talker.until("input_audio_buffer.committed")
                talker.send("response.create")
                assert talker.until("response.done")["response"]["status"] == "completed"
                assert door.realtime.audio_bytes <= 3 * len(second)
            talker.append(second * 4)
            assert talker.until("error")["error"]["code"] == "too_large"
            talker.send("input_audio_buffer.clear")
            talker.until("input_audio_buffer.cleared")
        wait_until(lambda: nothing_left(door))


def ask_about(talker: Talker, turns: int, seconds: float) -> None:
    """Commit so many turns of sound, and ask for an answer after each."""
    talker.update(output_modalities=["text"], audio={"input": {"turn_detection": None}})
    for _ in range(turns):
        talker.append(quiet(seconds))
        talker.send("input_audio_buffer.commit")
        talker.until("input_audio_buffer.committed")
        talker.send("response.create")
        assert talker.until("response.done")["response"]["status"] == "completed"


@pytest.mark.parametrize(("clip_s", "remembered"), [(2, 1), (3, 2), (600, 3)])
def test_as_much_sound_is_asked_with_as_the_model_hears(
    clip_s: int, remembered: int, triton: FakeTriton
) -> None:
    with door_before(triton, RealtimeLimits.of_model(clip_s, 1024)) as door, Talker(address(door)) as talker:
        ask_about(talker, turns=3, seconds=1.2)
    asked = list(triton.seen.values())[-1]
    sounds = [message for message in messages(asked) if message["role"] == "user"]
    assert len(sounds) == remembered


@pytest.mark.parametrize("answer_tokens", [1024, 4096])
def test_an_answer_may_be_as_long_as_the_model_answers(answer_tokens: int, triton: FakeTriton) -> None:
    limits = RealtimeLimits.of_model(1800, answer_tokens)
    assert limits.session_bytes == 3 * RealtimeLimits().session_bytes
    with door_before(triton, limits) as door, Talker(address(door)) as talker:
        for wanted, given in (("inf", answer_tokens), (9000, answer_tokens), (7, 7)):
            talker.update(max_output_tokens=wanted)
            talker.say("say=done")
            talker.until("response.done")
            assert list(triton.seen.values())[-1].parameters["max_tokens"].int64_param == given


def test_a_client_that_does_not_read_loses_its_session(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either way: its events fill the outbox, or a write makes no progress."""
    monkeypatch.setattr(stall_watch.StallWatch.__init__, "__defaults__", (0.5,))
    long = json.dumps({"type": "session.update", "session": {"instructions": "x" * 40_000}})
    short = json.dumps({"type": "session.update", "session": {}})
    with door_before(triton) as door, unread(door) as send:
        with suppress(OSError):
            send(long)
            for _ in range(2_000):
                send(short)
        wait_until(lambda: nothing_left(door), 60)


@contextmanager
def unread(door: Door) -> Iterator[Callable[[str], None]]:
    """A session whose client never reads after the handshake."""
    protocol = ClientProtocol(parse_uri(f"{address(door)}/v1/realtime"))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(5)
        connection.connect((door.host, door.ports.http))
        protocol.send_request(protocol.connect())
        connection.sendall(b"".join(protocol.data_to_send()))
        protocol.receive_data(connection.recv(1024))

        def send(text: str) -> None:
            protocol.send_text(text.encode())
            connection.sendall(b"".join(protocol.data_to_send()))

        yield send


@contextmanager
def listening(triton: FakeTriton) -> Iterator[tuple[Door, Talker]]:
    with door_before(triton) as door, Talker(address(door)) as talker:
        talker.update(audio={"input": {"turn_detection": LISTENS}})
        hears(talker)
        yield door, talker


def hears(talker: Talker) -> None:
    """Speak until it is heard: sound that the dead process had is lost."""
    for _ in range(60):
        start = len(talker.events)
        talker.append(voice())
        talker.append(quiet(1))
        talker.update()
        with suppress(TimeoutError):
            talker.until("input_audio_buffer.committed", 1.0)
        if "input_audio_buffer.committed" in talker.kinds(start):
            return
    raise AssertionError(talker.kinds())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_when_the_process_that_hears_dies_or_hangs_another_one_goes_on(
    how: signal.Signals, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(triton) as (door, talker):
        monkeypatch.setattr(sound_worker, "HUNG_S", 4.0)
        process = door.realtime.worker._process
        assert process is not None
        os.kill(process.pid, how)
        hears(talker)
        assert door.realtime.worker.starts > 1
        talker.say("say=la |many=2|big=8820|hz=22050")
        assert talker.until("response.done")["response"]["status"] == "completed"
        assert len(talker.speech()) > 10_000
    last = door.realtime.worker._process
    assert last is not None
    assert not Path(f"/proc/{last.pid}").exists()
    assert not Path(f"/proc/{process.pid}").exists()
