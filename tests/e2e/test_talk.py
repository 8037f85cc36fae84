"""The talk client against the live server: saved, played, interrupted."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3 import contract
from clients import AudioFlamingo
from clients.commands.talk import Listener, Talk
from clients.request import Parameters
from clients.sound.microphone import FRAME_SAMPLES
from clients.sound.playback import Nowhere, Output
from serving.door.door import Door
from tests.support import scrape
from tests.support.clips import clip

REPOSITORY = Path(__file__).parents[2]
WAIT_S = 60
LONG: Parameters = {"max_tokens": 400, "temperature": 1.5, "seed": 3}
LONG_FLAGS = ["--max-tokens", "400", "--temperature", "1.5", "--seed", "3"]


class Speaker(Nowhere):
    """Tells when it was given speech and when it was silenced."""

    def __init__(self) -> None:
        self.given = threading.Event()
        self.stopped = threading.Event()

    def play(self, pcm: np.ndarray, hz: int) -> None:
        assert not self.stopped.is_set()
        self.given.set()

    def stop(self) -> None:
        self.stopped.set()

    def drain(self) -> None:
        """A sound card is slower than the server."""
        self.stopped.wait(WAIT_S)


@pytest.fixture
def flamingo(url: str) -> Iterator[AudioFlamingo]:
    with AudioFlamingo(url, contract.AUDIO_FLAMINGO_SPEECH.name) as connected:
        yield connected


@pytest.fixture
def question(tmp_path: Path) -> Path:
    path = tmp_path / "question.wav"
    path.write_bytes(clip(1.0, seed=5))
    return path


def talking(flamingo: AudioFlamingo, output: Output) -> Talk:
    return Talk(flamingo, [output], "Go on.", WAIT_S, LONG)


def started(url: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clients.commands.talk", *map(str, arguments), "--url", url]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_question_in_a_file_is_answered_in_a_file(url: str, question: Path, tmp_path: Path) -> None:
    out = tmp_path / "reply.wav"
    process = started(url, question, "--out", out, "--prompt", "Go on.", *LONG_FLAGS)
    text, notes = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, notes
    assert text.strip()
    assert "first audio" in notes
    pcm, hz = soundfile.read(out)
    assert hz == 22050
    assert np.abs(pcm).max() > 0.1


@pytest.mark.parametrize("killed_by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_file_is_valid_when_talking_is_interrupted(
    url: str, question: Path, tmp_path: Path, killed_by: signal.Signals
) -> None:
    out = tmp_path / "reply.wav"
    process = started(
        url, question, "--out", out, "--prompt", "Go on.", "--max-tokens", 1024, *LONG_FLAGS[2:]
    )
    scrape.wait_until(lambda: out.exists() and out.stat().st_size > 44, WAIT_S)
    process.send_signal(killed_by)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == (130 if killed_by == signal.SIGINT else -killed_by)
    pcm, hz = soundfile.read(out)
    assert hz == 22050
    assert len(pcm) > 0
    assert len(pcm) == soundfile.info(out).frames


def test_an_interrupted_answer_is_silent_and_only_what_was_heard_is_kept(
    flamingo: AudioFlamingo, server: Door
) -> None:
    speaker = Speaker()
    talk = talking(flamingo, speaker)
    reply = talk.ask(clip(1.0, seed=5))
    player = threading.Thread(target=reply.play)
    player.start()
    scrape.wait_until(lambda: len(reply._transcript._segments) > 1, WAIT_S)
    scrape.wait_until(lambda: reply._meter.playhead.heard_s > 2, WAIT_S)
    reply.interrupt()
    assert speaker.stopped.is_set()
    player.join(WAIT_S)
    talk.keep(reply)
    whole = flamingo.chat(
        talk.conversation.messages[:1], talk.conversation.clips, timeout_s=WAIT_S, **LONG
    ).text()
    assert 0 < len(reply.heard) < len(whole)
    assert whole.startswith(reply.heard)
    assert talk.conversation.messages[-1] == {"role": "assistant", "content": reply.heard}
    scrape.wait_until(lambda: scrape.read(server)["af3_speech_live"] == 0)
    scrape.wait_until(lambda: scrape.read(server)["af3_answers_live"] == 0)


def test_the_talk_goes_on_after_an_interruption(flamingo: AudioFlamingo) -> None:
    talk = talking(flamingo, Speaker())
    reply = talk.ask(clip(1.0, seed=6))
    reply.interrupt()
    reply.play()
    talk.keep(reply)
    assert reply.heard == ""
    assert len(talk.conversation.messages) == 1  # nothing was heard: the question stands alone
    talk = Talk(flamingo, [Nowhere()], "Go on.", WAIT_S, {"max_tokens": 20})
    talk.conversation = talk.conversation.asked("Before.", [clip(1.0, seed=6)])
    following = talk.ask(clip(1.0, seed=7))
    following.play()
    talk.keep(following)
    assert [message["role"] for message in talk.conversation.messages] == ["user", "user", "assistant"]
    assert talk.conversation.messages[-1]["content"] == following.heard


def test_speaking_up_interrupts_the_answer(flamingo: AudioFlamingo) -> None:
    speaker = Speaker()
    reply = talking(flamingo, speaker).ask(clip(1.0, seed=8))
    player = threading.Thread(target=reply.play)
    player.start()
    assert speaker.given.wait(WAIT_S)
    voice, _ = soundfile.read(REPOSITORY / "checkpoints" / "samples" / "question.wav", dtype="int16")
    heard = np.concatenate([np.zeros(16000, np.int16), voice, np.zeros(16000, np.int16)])
    listener = Listener(iter(heard[: len(heard) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)))
    listener.reply = reply
    listener.start()
    assert len(list(listener.utterances())) == 1
    assert speaker.stopped.is_set()
    player.join(WAIT_S)
    assert not player.is_alive()


def test_talking_to_nobody_is_a_clear_error(question: Path) -> None:
    process = started("127.0.0.1:1", question)
    _, notes = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert "no server at 127.0.0.1:1" in notes


def test_an_unknown_voice_is_told_with_those_there_are(url: str, question: Path) -> None:
    process = started(url, question, "--voice", "nobody")
    _, notes = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert "there is no 'nobody'; choose one of en-us" in notes
