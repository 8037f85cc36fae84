"""Realtime against the live server with the trained checkpoint: asked by voice, answered by voice, interrupted."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soxr

from af3.speech.engines.espeak import SAMPLE_RATE, EspeakSynthesizer
from af3.speech.pcm import shape
from build_engines.source.checkpoint import open_checkpoint
from clients import AudioFlamingo, Samples
from serving.address import location
from serving.door.door import Door
from serving.door.realtime.audio_formats import AudioFormat, Clip
from tests.e2e.conftest import door_before, triton_on
from tests.support import scrape
from tests.support.engines import CACHE, build_cpu_engines
from tests.support.realtime_client import Talker, spoken
from training.scenes import COMMANDS, DIGITS

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "af3-tiny"
QUESTION = "what is two plus three"
ANSWER, BEFORE_LAST_WORD, LAST_WORD = "Two plus three is five.", "Two plus three is", "five"
TRANSCRIBE = "Transcribe the input speech."
HEARD = 'The spoken content of the audio is "{}".'
HZ = 24_000


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A server of its own: only the trained checkpoint understands words."""
    engines = CACHE / "engines-af3-tiny"
    build_cpu_engines(open_checkpoint(str(CHECKPOINT)), "fp32", engines / "cpu")
    folder = tmp_path_factory.mktemp("realtime")
    (folder / "engines").symlink_to(engines)
    with triton_on(folder) as triton, door_before(triton) as made:
        yield made


@pytest.fixture(scope="module")
def espeak() -> Iterator[EspeakSynthesizer]:
    synthesizer = EspeakSynthesizer(processes=1)
    yield synthesizer
    synthesizer.close()


@pytest.fixture
def talker(door: Door) -> Iterator[Talker]:
    with Talker(address(door)) as connected:
        yield connected


def address(door: Door) -> str:
    return f"ws://{location(door.host, door.ports.http)}"


def words(espeak: EspeakSynthesizer, text: str, hz: int = HZ, rate: float = 1.0) -> np.ndarray:
    """int16 [n]."""
    pcm = np.concatenate(list(shape(espeak.voice("en-us", rate).speak(text), SAMPLE_RATE, 0.0)))
    return soxr.resample(pcm, SAMPLE_RATE, hz)


def quiet(seconds: float, hz: int = HZ) -> np.ndarray:
    return np.zeros(round(seconds * hz), np.int16)


def said(espeak: EspeakSynthesizer, text: str, hz: int = HZ, after_s: float = 1.0) -> np.ndarray:
    """As a microphone hears it: with a moment of quiet around it."""
    return np.concatenate([quiet(0.5, hz), words(espeak, text, hz), quiet(after_s, hz)])


def understood(door: Door, pcm: np.ndarray, hz: int = HZ) -> str:
    """What the server itself hears."""
    samples = Samples(np.pad(pcm.astype(np.float32) / 32768, hz // 5), hz)
    with AudioFlamingo(door.url) as flamingo:
        return flamingo.ask(samples, TRANSCRIBE).text()


def last_word(espeak: EspeakSynthesizer, speech: np.ndarray, hz: int = HZ) -> np.ndarray:
    """The end of ANSWER in its speech; the sentence before it is beyond what af3-tiny has heard."""
    return speech[len(words(espeak, BEFORE_LAST_WORD, hz)) :]


def push(talker: Talker, pcm: np.ndarray, **response: object) -> dict:
    """A turn that the client commits; the response when it is done."""
    talker.append(pcm)
    talker.send("input_audio_buffer.commit")
    talker.send("response.create", response=response)
    done = talker.until("response.done")["response"]
    assert done["status"] == "completed", done["status_details"]
    return done


def transcribe() -> dict:
    return {"type": "input_text", "text": TRANSCRIBE}


PUSH_TO_TALK = {"input": {"turn_detection": None}}


def test_a_spoken_question_gets_a_spoken_answer_that_is_right(
    door: Door, talker: Talker, espeak: EspeakSynthesizer
) -> None:
    talker.update(audio={"input": {"transcription": {"model": "any"}}})
    talker.append(said(espeak, QUESTION))
    done = talker.until("response.done")["response"]
    assert done["status"] == "completed", done["status_details"]
    assert spoken(talker.events) == ANSWER
    started, stopped = (talker.seen(f"input_audio_buffer.speech_{end}") for end in ("started", "stopped"))
    assert 0 <= started["audio_start_ms"] <= 500
    assert stopped["audio_end_ms"] == pytest.approx(
        500 + 1000 * len(words(espeak, QUESTION)) / HZ + 500, abs=200
    )
    speech = np.frombuffer(talker.speech(), "<i2")
    assert understood(door, last_word(espeak, speech)) == HEARD.format(LAST_WORD)
    transcript = talker.seen("conversation.item.input_audio_transcription.completed")
    assert transcript["item_id"] == started["item_id"] == stopped["item_id"]
    assert transcript["transcript"]


def test_both_turns_are_heard_when_the_second_is_answered(
    door: Door, talker: Talker, espeak: EspeakSynthesizer
) -> None:
    """Token for token what a client gets that sends both clips itself."""
    talker.update(output_modalities=["text"], audio=PUSH_TO_TALK)
    sounds = [said(espeak, text) for text in (QUESTION, "what is the capital of france")]
    texts = [push(talker, sound)["output"][0]["content"][0]["text"] for sound in sounds]
    turn = {"role": "user", "content": [{"type": "audio"}]}
    messages = [turn, {"role": "assistant", "content": texts[0]}, turn]
    clips = [Clip(sound.tobytes(), HZ).wav() for sound in sounds]
    with AudioFlamingo(door.url) as flamingo:
        assert flamingo.chat([turn], clips[:1]).text() == texts[0] == ANSWER
        assert flamingo.chat(messages, clips).text() == texts[1]


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_a_telephone_is_heard_and_answered(
    kind: str, door: Door, talker: Talker, espeak: EspeakSynthesizer
) -> None:
    """af3-tiny understands a few words alone of what has no sound above 4 kHz."""
    wire = AudioFormat(kind, 8000)
    before = "The spoken content of the audio is"
    sound = wire.from_pcm(said(espeak, "three", 8000).tobytes())
    detection = {"type": "server_vad", "create_response": False}
    talker.update(
        audio={
            "input": {"format": {"type": kind}, "turn_detection": detection},
            "output": {"format": {"type": kind}},
        }
    )
    talker.append(sound, block=160)
    assert talker.until("input_audio_buffer.speech_started")["audio_start_ms"] == pytest.approx(200, abs=150)
    talker.until("input_audio_buffer.committed")
    content = [{"type": "input_audio", "audio": base64.b64encode(sound).decode()}, transcribe()]
    item = {"type": "message", "role": "user", "content": content}
    talker.send("response.create", response={"conversation": "none", "input": [item]})
    assert talker.until("response.done")["response"]["status"] == "completed"
    assert spoken(talker.events) == HEARD.format("three")
    speech = np.frombuffer(wire.to_pcm(talker.speech()), "<i2")
    assert understood(door, speech[len(words(espeak, before, 8000)) :], 8000) == HEARD.format("three")


def test_speaking_up_stops_the_answer_and_only_what_was_heard_is_kept(
    door: Door, talker: Talker, espeak: EspeakSynthesizer
) -> None:
    talker.update(audio={"output": {"speed": 0.5}})
    talker.append(said(espeak, QUESTION))
    item = talker.until("conversation.item.added")
    while item["item"]["role"] != "assistant":
        item = talker.until("conversation.item.added")
    item_id = item["item"]["id"]
    talker.until("response.output_audio.delta")
    talker.append(said(espeak, "what is the capital of france", after_s=0))
    talker.until("input_audio_buffer.speech_started")
    start = len(talker.events)
    done = talker.until("response.done")["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")
    assert talker.of("response.output_audio.delta", start) == []
    talker.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=1000)
    assert talker.until("conversation.item.truncated")["audio_end_ms"] == 1000
    talker.send("conversation.item.retrieve", item_id=item_id)
    (part,) = talker.until("conversation.item.retrieved")["item"]["content"]
    assert part["transcript"] in ("Two", "Two plus"), part
    scrape.wait_until(lambda: scrape.read(door)["af3_speech_live"] == 0)
    scrape.wait_until(lambda: scrape.read(door)["af3_answers_live"] == 0)
    talker.append(quiet(1.0))
    assert talker.until("response.done")["response"]["status"] == "completed"


def test_sessions_at_once_never_mix(door: Door, espeak: EspeakSynthesizer) -> None:
    """32 of them, each with a word of its own, twice; all but a few are understood, and none has another's word."""
    asked = [*DIGITS, *COMMANDS[:6]] * 2
    sounds = {word: said(espeak, word) for word in asked}

    def one(word: str) -> list[str]:
        with Talker(address(door)) as mine:
            mine.update(audio=PUSH_TO_TALK)
            found = []
            for _ in range(2):
                content = [
                    {"type": "input_audio", "audio": base64.b64encode(sounds[word].tobytes()).decode()},
                    transcribe(),
                ]
                item = {"type": "message", "role": "user", "content": content}
                mine.send("conversation.item.create", item=item)
                start = len(mine.events)
                mine.send("response.create", response={"conversation": "none", "input": [item]})
                done = mine.until("response.done", 200)["response"]
                assert done["status"] == "completed", done["status_details"]
                assert len(mine.speech(start)) > HZ
                found.append(spoken(mine.events[start:]))
            return found

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(one, asked))
    with AudioFlamingo(door.url) as flamingo:
        alone = {
            word: flamingo.ask(Clip(sound.tobytes(), HZ).wav(), TRANSCRIBE).text()
            for word, sound in sounds.items()
        }
    assert answers == [[alone[word]] * 2 for word in asked]
    assert sum(alone[word] == HEARD.format(word) for word in sounds) >= 14
    scrape.wait_until(lambda: door.realtime.sessions == 0 and door.realtime.audio_bytes == 0)
