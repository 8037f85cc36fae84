"""Spoken to in natural voices, af3-tiny understands; what it answers in one is understood when it is fed back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3 import contract
from af3.speech.engines.kokoro import SAMPLE_RATE, KokoroSynthesizer
from clients import AudioFlamingo, Samples
from serving.host.triton import Server
from tests.support.natural_server import VOICE, WORDS, natural_server, said
from training.natural_voices import HELD_OUT
from training.questions import GENERAL_KNOWLEDGE, transcript

TRANSCRIBE = "Transcribe the input speech."
CLIP_HZ = 16000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with natural_server(tmp_path_factory.mktemp("natural")) as running:
        yield running


@pytest.fixture(scope="module")
def flamingo(server: Server) -> Iterator[AudioFlamingo]:
    with AudioFlamingo(server.url, contract.AUDIO_FLAMINGO_SPEECH.name) as connected:
        yield connected


def clip(voices: KokoroSynthesizer, name: str, text: str) -> Samples:
    return Samples(said(voices, name, text, CLIP_HZ), CLIP_HZ)


def test_most_digits_and_commands_in_voices_that_it_never_heard(
    flamingo: AudioFlamingo, voices: KokoroSynthesizer
) -> None:
    right = 0
    for name in HELD_OUT:
        wrong = []
        for word in WORDS:
            answer = flamingo.ask(clip(voices, name, f"{word.capitalize()}."), TRANSCRIBE).text()
            if answer != transcript(word):
                wrong.append((word, answer.partition('"')[2].rstrip('".')))
        right += len(WORDS) - len(wrong)
        print(f"{name}: {len(WORDS) - len(wrong)} of {len(WORDS)}; {wrong}")
    share = right / (len(HELD_OUT) * len(WORDS))
    print(f"together {share:.1%}")
    assert share >= 0.95


def test_talk_hears_the_voice_that_the_server_speaks_with(
    server: Server, voices: KokoroSynthesizer, tmp_path: Path
) -> None:
    """Every digit and command, as it is spoken, is the only turn of a talk."""
    wrong = []
    for word in WORDS:
        question, reply = tmp_path / f"{word}.wav", tmp_path / "reply.wav"
        soundfile.write(question, said(voices, VOICE, f"{word.capitalize()}.", CLIP_HZ), CLIP_HZ)
        talk = [sys.executable, "-m", "clients", "talk", question, "--url", server.url, "--out", reply]
        done = subprocess.run(talk, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert soundfile.info(reply).duration > 1
        if done.stdout.strip() != transcript(word):
            wrong.append((word, done.stdout.strip()))
    print(f"talk: {len(WORDS) - len(wrong)} of {len(WORDS)}; {wrong}")
    assert len(wrong) <= 0.05 * len(WORDS)


def test_a_question_asked_by_voice_is_answered_by_voice_and_the_answer_is_what_is_written(
    flamingo: AudioFlamingo, voices: KokoroSynthesizer
) -> None:
    question = "what is the capital of france"
    messages = [{"role": "user", "content": [{"type": "audio"}]}]
    answer = flamingo.chat(messages, [clip(voices, VOICE, f"{question.capitalize()}?")])
    deltas = list(answer)
    spoken = np.concatenate([delta.speech for delta in deltas if delta.speech is not None])
    assert answer.text_so_far == GENERAL_KNOWLEDGE[question]
    assert "".join(delta.speech_text for delta in deltas) == answer.text_so_far
    assert len(spoken) > SAMPLE_RATE
