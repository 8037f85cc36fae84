"""What an interruption does first; against a stand-in for the server (see client_stand_in.py)."""

import threading
from collections.abc import Iterator

import grpc
import pytest

from clients import AudioFlamingo
from clients.commands.talk import Talk
from clients.sound.playback import Nowhere
from tests.support.client_stand_in import Request, Response, StandIn, empty_final, endless

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
        context.add_callback(left.set)
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
