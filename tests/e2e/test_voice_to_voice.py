"""Asked by voice, answered by voice: what af3-tiny says is fed back to it and understood."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from af3 import contract
from af3.speech.engines.espeak import SAMPLE_RATE, EspeakSynthesizer
from af3.speech.pcm import shape
from build_engines.source.checkpoint import open_checkpoint
from clients import AudioFlamingo, Samples
from tests.support.engines import CACHE, build_cpu_engines
from tests.support.ready_server import ready_server
from training.scenes import COMMANDS, DIGITS

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "af3-tiny"
TRANSCRIBE = "Transcribe the input speech."


@pytest.fixture(scope="module")
def flamingo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AudioFlamingo]:
    """A server of its own: only the trained checkpoint understands words."""
    engines = CACHE / "engines-af3-tiny"
    build_cpu_engines(open_checkpoint(str(CHECKPOINT)), "fp32", engines / "cpu")
    folder = tmp_path_factory.mktemp("trained")
    (folder / "engines").symlink_to(engines)
    with (
        ready_server(folder) as server,
        AudioFlamingo(server.url, contract.AUDIO_FLAMINGO_SPEECH.name) as connected,
    ):
        yield connected


@pytest.fixture(scope="module")
def espeak() -> Iterator[EspeakSynthesizer]:
    synthesizer = EspeakSynthesizer(processes=1)
    yield synthesizer
    synthesizer.close()


def said(espeak: EspeakSynthesizer, text: str, voice: str) -> np.ndarray:
    return np.concatenate(list(shape(espeak.voice(voice, 1.0).speak(text), SAMPLE_RATE, 0.0)))


def clip(pcm: np.ndarray) -> Samples:
    """With a moment of silence around it, as a microphone has: af3-tiny mishears words that begin with the clip."""
    return Samples(np.pad(pcm.astype(np.float32) / 32768, SAMPLE_RATE // 5), SAMPLE_RATE)


@pytest.mark.parametrize("voice", ["en-us", "en-gb"])
def test_what_is_said_is_answered_in_speech_that_is_understood_when_it_is_fed_back(
    flamingo: AudioFlamingo, espeak: EspeakSynthesizer, voice: str
) -> None:
    """Digits and command words go in by voice; the words of the spoken answer go in again.

    The sentence around the words is beyond what af3-tiny has heard, so its sound is cut off.
    """
    understood = []
    for word in (*DIGITS, *COMMANDS[:8]):
        answer = flamingo.ask(clip(said(espeak, word, voice)), TRANSCRIBE, voice=voice)
        spoken = np.concatenate([delta.speech for delta in answer if delta.speech is not None])
        before, _, quoted = answer.text_so_far.partition('"')
        if quoted.rstrip('".') != word:
            continue
        heard = flamingo.ask(clip(spoken[len(said(espeak, before, voice)) :]), TRANSCRIBE).text()
        if heard == answer.text_so_far:
            understood.append(word)
    assert len(understood) >= 15, f"of 18 words only {understood} came back"


def test_a_question_asked_by_voice_alone_is_answered_by_voice(
    flamingo: AudioFlamingo, espeak: EspeakSynthesizer
) -> None:
    """The text is that of the ensemble without speech; all of it is spoken, and as long as in one piece."""
    question = clip(said(espeak, "what is the capital of france", "en-us"))
    messages = [{"role": "user", "content": [{"type": "audio"}]}]
    answer = flamingo.chat(messages, [question])
    deltas = list(answer)
    spoken = np.concatenate([delta.speech for delta in deltas if delta.speech is not None])
    with AudioFlamingo(flamingo.url) as silent:
        assert answer.text_so_far == silent.chat(messages, [question]).text()
    assert "".join(delta.speech_text for delta in deltas) == answer.text_so_far
    assert len(spoken) == pytest.approx(len(said(espeak, answer.text_so_far, "en-us")), rel=0.15)


def test_what_max_tokens_cut_off_in_the_middle_of_a_sentence_is_spoken_to_its_end(
    flamingo: AudioFlamingo, espeak: EspeakSynthesizer
) -> None:
    answer = flamingo.ask(clip(said(espeak, "seven", "en-us")), TRANSCRIBE, max_tokens=4)
    spoken = "".join(delta.speech_text for delta in answer)
    assert answer.finish_reason == "length"
    assert spoken.strip() == answer.text_so_far.strip() != ""
