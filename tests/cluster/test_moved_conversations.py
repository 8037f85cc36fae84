"""Conversations whose server goes away: by voice over Realtime, and about clips that are named by their hash."""

import threading
import time
from itertools import pairwise

import pytest
from websockets.exceptions import ConnectionClosed

from clients import AudioFlamingo
from deploy.cluster import Cluster, Member
from deploy.envoy import HOST
from tests.support.clips import file_bytes, sound
from tests.support.cluster_traffic import ANSWERED, counted
from tests.support.realtime_client import Talker

SESSIONS, SHUTTING_DOWN = 4, (1001, "the server is shutting down")
QUESTIONS = ("What is it?", "And now?", "Is it loud?")


class Speaker(threading.Thread):
    """A session that goes on through restarts: told to leave, it connects again and says what has been said."""

    def __init__(self, cluster: Cluster, name: str, over: threading.Event):
        super().__init__(daemon=True)
        self._url = f"ws://{HOST}:{cluster.ports.http}"
        self._name = name
        self._over = over
        self.said: list[tuple[str, str]] = []  # question and answer
        self.closes: list[tuple[int, str]] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._one_connection()
        except BaseException as error:
            self.failure = error

    def _one_connection(self) -> None:
        try:
            with Talker(self._url, f"?model=any&session={self._name}") as talker:
                talker.update(output_modalities=["text"])
                for question, answer in self.said[-4:]:
                    talker.add(question)
                    content = [{"type": "output_text", "text": answer}]
                    item = {"type": "message", "role": "assistant", "content": content}
                    talker.send("conversation.item.create", item=item)
                while not self._over.is_set():
                    self._turn(talker)
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "cut off without a word"
            self.closes.append((closed.rcvd.code, closed.rcvd.reason))

    def _turn(self, talker: Talker) -> None:
        question = f"{self._name} asks for the {len(self.said)}th time"
        talker.say(question, max_output_tokens=4)
        response = talker.until("response.done", 60)["response"]
        if "shutting down" in str(response["status_details"]):
            talker.next(30)  # it is closed
            return
        assert response["status"] in ("completed", "incomplete"), response
        content = response["output"][0]["content"]
        self.said.append((question, content[0]["text"] if content else ""))


# Three servers start again, which takes up to two minutes each on a busy machine.
@pytest.mark.timeout(900, func_only=True)
def test_realtime_sessions_are_told_to_reconnect_and_go_on_through_a_rolling_restart(
    cluster: Cluster,
) -> None:
    over = threading.Event()
    speakers = [Speaker(cluster, f"speaker-{number}", over) for number in range(SESSIONS)]
    for speaker in speakers:
        speaker.start()
    for server in cluster.servers:
        counts = [len(speaker.said) for speaker in speakers]
        cluster.restart(server)
        end = time.monotonic() + 60
        while any(len(one.said) <= old for one, old in zip(speakers, counts, strict=True)):
            assert not [one.failure for one in speakers if one.failure]
            assert time.monotonic() < end, [len(one.said) for one in speakers]
            time.sleep(0.05)
    over.set()
    for speaker in speakers:
        speaker.join(90)
    assert [one.failure for one in speakers] == [None] * SESSIONS
    closes = [close for speaker in speakers for close in speaker.closes]
    turns = sum(len(speaker.said) for speaker in speakers)
    print(f"{turns} turns of {SESSIONS} sessions, {len(closes)} times told to reconnect")
    assert len(closes) >= SESSIONS  # every session's server was restarted at least once
    assert set(closes) == {SHUTTING_DOWN}


def received(cluster: Cluster) -> float:
    return cluster.stats()["http.grpc.downstream_cx_rx_bytes_total"]


def place_of(cluster: Cluster, before: list[float]) -> int:
    grown = [counted(server, ANSWERED) - old for server, old in zip(cluster.servers, before, strict=True)]
    return grown.index(max(grown))


def direct(server: Member, clip: bytes, turns: int) -> list[str]:
    """The answers of one server that nobody takes away."""
    with AudioFlamingo(f"{HOST}:{server.ports.grpc}") as flamingo:
        return conversation(flamingo, clip, turns, [], [])


def conversation(
    flamingo: AudioFlamingo, clip: bytes, turns: int, messages: list[dict[str, object]], said: list[str]
) -> list[str]:
    """More turns of a conversation about the clip; all answers."""
    for number in range(len(said), len(said) + turns):
        parts: list[dict[str, object]] = [{"type": "text", "text": QUESTIONS[number]}]
        content = parts if number else [{"type": "audio"}, *parts]
        messages.append({"role": "user", "content": content})
        said.append(flamingo.chat(messages, [clip], max_tokens=8).text())
        messages.append({"role": "assistant", "content": said[-1]})
    return said


def test_a_conversation_about_a_clip_goes_on_at_another_server_for_one_upload(cluster: Cluster) -> None:
    clip = file_bytes(sound(12.0, 48_000, 2, seed=8100), 48_000)
    expected = direct(cluster.servers[0], clip, 3)
    messages: list[dict[str, object]] = []
    said: list[str] = []
    answered = [counted(server, ANSWERED) for server in cluster.servers]
    sent = [received(cluster)]
    with AudioFlamingo(f"{HOST}:{cluster.ports.grpc}", by_hash=True) as flamingo:
        conversation(flamingo, clip, 1, messages, said)
        sent.append(received(cluster))
        home = place_of(cluster, answered)
        at_home = counted(cluster.servers[home], ANSWERED)
        try:
            cluster.route_to([one.ports for one in cluster.servers if one is not cluster.servers[home]])
            for _ in range(2):
                conversation(flamingo, clip, 1, messages, said)
                sent.append(received(cluster))
        finally:
            cluster.route_to([one.ports for one in cluster.servers])
    first, moved, again = (after - before for before, after in pairwise(sent))
    print(
        f"{len(clip) / 1e6:.2f} MB clip: {first / 1e6:.2f}, {moved / 1e6:.2f} and {again / 1e6:.3f} MB sent"
    )
    assert said == expected
    assert counted(cluster.servers[home], ANSWERED) == at_home  # the other two turns were answered elsewhere
    assert len(clip) < moved < 1.02 * len(clip)
    assert again < 50e3
