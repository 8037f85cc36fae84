"""Spoken to in natural voices, af3-tiny understands; what it answers in one is understood when it is fed back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soxr

from af3 import contract
from af3.speech.engines.kokoro import SAMPLE_RATE, KokoroSynthesizer
from af3.speech.pcm import shape
from build_engines import stage
from build_engines.source.checkpoint import open_checkpoint
from build_engines.voice import choose_voice
from clients import AudioFlamingo, Samples
from tests.support.engines import build_cpu_engines
from tests.support.ready_server import ready_server
from training.natural_voices import HELD_OUT
from training.questions import GENERAL_KNOWLEDGE
from training.scenes import COMMANDS, DIGITS

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "af3-tiny"
TRANSCRIBE = "Transcribe the input speech."
CLIP_HZ = 16000


@pytest.fixture(scope="module")
def flamingo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AudioFlamingo]:
    """A server of af3-tiny that speaks in the natural voice."""
    folder = tmp_path_factory.mktemp("natural")
    build_cpu_engines(open_checkpoint(str(CHECKPOINT)), "fp32", folder / "engines" / "cpu")
    stage.run([choose_voice.stage("kokoro")], folder / "engines" / "cpu")
    with (
        ready_server(folder) as server,
        AudioFlamingo(server.url, contract.AUDIO_FLAMINGO_SPEECH.name) as connected,
    ):
        yield connected


def said(voices: KokoroSynthesizer, name: str, text: str) -> np.ndarray:
    """int16 [n] at 24 kHz, as the server speaks a segment."""
    voice = voices.voice(name, 1.0)
    return np.concatenate(list(shape(voice.speak(voice.speakable(text)), SAMPLE_RATE, 0.0)))


def clip(pcm: np.ndarray) -> Samples:
    heard = soxr.resample(pcm.astype(np.float32) / 32768, SAMPLE_RATE, CLIP_HZ)
    return Samples(np.pad(heard, CLIP_HZ // 5), CLIP_HZ)


def test_most_digits_and_commands_in_voices_that_it_never_heard(
    flamingo: AudioFlamingo, voices: KokoroSynthesizer
) -> None:
    """95 % is wanted. The present weights reach 94 % (British voices 90), so this only holds them there."""
    words = (*DIGITS, *COMMANDS)
    right = 0
    for name in HELD_OUT:
        wrong = []
        for word in words:
            answer = flamingo.ask(clip(said(voices, name, f"{word.capitalize()}.")), TRANSCRIBE).text()
            if answer != f'The spoken content of the audio is "{word}".':
                wrong.append((word, answer.partition('"')[2].rstrip('".')))
        right += len(words) - len(wrong)
        print(f"{name}: {len(words) - len(wrong)} of {len(words)}; {wrong}")
    share = right / (len(HELD_OUT) * len(words))
    print(f"together {share:.1%}")
    assert share >= 0.92


def test_a_question_asked_by_voice_is_answered_by_voice_and_the_answer_is_what_is_written(
    flamingo: AudioFlamingo, voices: KokoroSynthesizer
) -> None:
    question = "what is the capital of france"
    messages = [{"role": "user", "content": [{"type": "audio"}]}]
    answer = flamingo.chat(messages, [clip(said(voices, "af_heart", f"{question.capitalize()}?"))])
    deltas = list(answer)
    spoken = np.concatenate([delta.speech for delta in deltas if delta.speech is not None])
    assert answer.text_so_far == GENERAL_KNOWLEDGE[question]
    assert "".join(delta.speech_text for delta in deltas) == answer.text_so_far
    assert len(spoken) > SAMPLE_RATE
