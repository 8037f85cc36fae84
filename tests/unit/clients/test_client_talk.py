"""What an interruption does first; against a stand-in for the server (see client_stand_in.py)."""

import _thread
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from clients import AudioFlamingo
from clients.commands.talk import Listener, Talk
from clients.errors import AudioFlamingoError
from clients.sound.microphone import Frame, Microphone, UtteranceDetector
from clients.sound.playback import Loudspeaker, Nowhere
from tests.support.client_stand_in import Request, Response, StandIn, empty_final, endless
from tests.support.scrape import wait_until

WAIT_S = 20


class SoundCard(Nowhere):
    """Tells when it was silenced."""

    def __init__(self) -> None:
        self.silenced = threading.Event()

    def stop(self) -> None:
        self.silenced.set()


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as running:
        yield running


def test_an_interruption_silences_and_cancels_before_it_waits_for_the_server(server: StandIn) -> None:
    asked, left, release = threading.Event(), threading.Event(), threading.Event()

    def behave(request: Request, context: grpc.ServicerContext) -> Iterator[Response]:
        if request.model_name == "tts":
            assert release.wait(WAIT_S)
            yield empty_final()
            return
        if not context.add_callback(left.set):  # it has gone already
            left.set()
        asked.set()
        yield from endless(request, context)

    server.behave = behave
    sound_card = SoundCard()
    with AudioFlamingo(server.url, "audio_flamingo_speech") as flamingo:
        reply = Talk(flamingo, [sound_card], "?", WAIT_S, {}).ask(b"clip")
        player = threading.Thread(target=reply.play)
        player.start()
        assert asked.wait(WAIT_S)
        interruption = threading.Thread(target=reply.interrupt)
        interruption.start()
        assert sound_card.silenced.wait(WAIT_S)
        assert left.wait(WAIT_S)
        player.join(WAIT_S)
        assert not player.is_alive()
        assert interruption.is_alive()
        release.set()
        interruption.join(WAIT_S)
    assert server.requests[-1].model_name == "tts"
    assert server.requests[-1].id == server.requests[0].id


def test_a_server_that_cannot_stop_the_speech_does_not_spoil_the_interruption(server: StandIn) -> None:
    def behave(request: Request, context: grpc.ServicerContext) -> Iterator[Response]:
        if request.model_name == "tts":
            return iter([Response(error_message="UNAVAILABLE: model 'tts' is not ready")])
        return endless(request, context)

    server.behave = behave
    with AudioFlamingo(server.url, "audio_flamingo_speech") as flamingo:
        talk = Talk(flamingo, [Nowhere()], "?", WAIT_S, {})
        reply = talk.ask(b"clip")
        reply.interrupt()
        reply.play()
        talk.keep(reply)
    assert reply.heard == ""
    assert [message["role"] for message in talk.conversation.messages] == ["user"]


BLOCK = np.full(2400, 7, np.int16)


def spoken(request: Request, context: grpc.ServicerContext) -> Iterator[Response]:
    """One block of speech, then text for as long as the client stays."""
    if request.model_name == "tts":
        yield empty_final()
        return
    response = Response()
    for name, datatype, data in (
        ("speech", "INT16", BLOCK),
        ("sample_rate", "INT32", np.array([24000], np.int32)),
    ):
        response.infer_response.outputs.add(name=name, datatype=datatype, shape=[len(data)])
        response.infer_response.raw_output_contents.append(data.tobytes())
    yield response
    yield from endless(request, context)


def test_the_answer_after_an_interrupted_one_is_heard(server: StandIn, tmp_path: Path) -> None:
    log = tmp_path / "heard"
    loudspeaker = Loudspeaker(("sh", "-c", f"cat >> {log}"))
    server.behave = spoken
    with AudioFlamingo(server.url, "audio_flamingo_speech") as flamingo:
        talk = Talk(flamingo, [loudspeaker], "?", WAIT_S, {})
        for turn in (1, 2, 3):
            reply = talk.ask(b"clip")
            player = threading.Thread(target=reply.play)
            player.start()
            wait_until(lambda turn=turn: log.exists() and log.stat().st_size == turn * BLOCK.nbytes, WAIT_S)
            reply.interrupt()
            player.join(WAIT_S)
            assert not player.is_alive()


def test_ctrl_c_stops_the_answer_on_the_server_too(server: StandIn) -> None:
    class Interrupted(Nowhere):
        def play(self, pcm: np.ndarray, hz: int) -> None:
            _thread.interrupt_main()

    server.behave = spoken
    with AudioFlamingo(server.url, "audio_flamingo_speech") as flamingo:
        with pytest.raises(KeyboardInterrupt):
            Talk(flamingo, [Interrupted()], "?", WAIT_S, {}).ask(b"clip").play()
        assert [request.model_name for request in server.requests] == ["audio_flamingo_speech", "tts"]


def test_ctrl_c_while_the_player_starts_leaves_nothing_to_trip_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    loudspeaker = Loudspeaker(("cat",))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loudspeaker.play(BLOCK, 24000)
    loudspeaker.close()


def test_a_microphone_that_fails_ends_the_talk_with_its_error() -> None:
    listener = Listener(Microphone("false"), UtteranceDetector(lambda frame: 0.0))
    listener.start()
    with pytest.raises(AudioFlamingoError, match="microphone: false: ended with code 1"):
        list(listener.utterances())


def test_a_detector_that_fails_ends_the_talk_with_its_error() -> None:
    def broken(frame: Frame) -> float:
        raise ZeroDivisionError("no model")

    listener = Listener([np.zeros(512, np.int16)], UtteranceDetector(broken))
    listener.start()
    with pytest.raises(ZeroDivisionError, match="no model"):
        list(listener.utterances())
