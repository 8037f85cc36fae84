"""Where speech starts and ends, by the real voice activity model on a real voice; and recording programs."""

import wave
from pathlib import Path

import numpy as np
import pytest

from clients.errors import AudioFlamingoError
from clients.sound import voice_activity
from clients.sound.microphone import FRAME_SAMPLES, HZ, LONGEST_MS, Microphone, UtteranceDetector

SAMPLES = Path(__file__).parents[3] / "checkpoints" / "samples"
FRAME_S = FRAME_SAMPLES / HZ


def room(seconds: float, rms: float, seed: int = 0) -> np.ndarray:
    return (
        np.random.default_rng(seed).normal(0, rms, round(seconds * HZ)).clip(-32768, 32767).astype(np.int16)
    )


def voice(rms: float = 3000) -> np.ndarray:
    """A spoken question of two seconds, from its first audible sample on."""
    with wave.open(str(SAMPLES / "question.wav")) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    audible = np.flatnonzero(np.abs(pcm) > 500)
    pcm = pcm[audible[0] : audible[-1]]
    return (pcm * (rms / np.sqrt(np.mean(pcm.astype(float) ** 2)))).clip(-32768, 32767).astype(np.int16)


def mixed(*parts: np.ndarray, noise_rms: float) -> np.ndarray:
    pcm = np.concatenate(parts).astype(float)
    return (pcm + room(len(pcm) / HZ, noise_rms)).clip(-32768, 32767).astype(np.int16)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * HZ), np.int16)


def frames(pcm: np.ndarray) -> np.ndarray:
    return pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)


def events(pcm: np.ndarray) -> list[tuple[str, float]]:
    """What the detector says, with the seconds at which it says so."""
    detector = UtteranceDetector()
    said = [(detector.take(frame), (place + 1) * FRAME_S) for place, frame in enumerate(frames(pcm))]
    return [(event, at_s) for event, at_s in said if event]


@pytest.mark.parametrize("noise_rms", [0, 30, 300, 1000])
def test_speech_is_noticed_in_a_noisy_room_and_so_is_its_end(noise_rms: float) -> None:
    spoken = voice(5000)
    pcm = mixed(silence(3), spoken, silence(2), noise_rms=noise_rms)
    (start, start_s), (end, end_s) = events(pcm)
    assert (start, end) == ("start", "stop")
    assert 3.0 < start_s <= 3.2
    assert 0.5 < end_s - 3 - len(spoken) / HZ < 1.2


@pytest.mark.parametrize("rms", [100, 1000, 5000])
def test_a_minute_of_steady_noise_is_no_speech(rms: float) -> None:
    assert events(room(60, rms)) == []


def test_a_click_is_no_speech() -> None:
    pcm = room(3, 30)
    pcm[16000:16300] = 20000
    assert events(pcm) == []


@pytest.mark.parametrize("late_ms", range(0, 32, 4))
def test_a_voice_is_noticed_within_a_tenth_of_a_second_wherever_in_a_frame_it_begins(late_ms: int) -> None:
    quiet = silence(16 * FRAME_S + late_ms / 1000)
    (_, start_s), *_ = events(mixed(quiet, voice(), noise_rms=30))
    assert start_s - len(quiet) / HZ <= 0.1


def test_a_short_pause_does_not_end_an_utterance() -> None:
    pcm = mixed(silence(2), voice(), silence(0.3), voice(), silence(2), noise_rms=30)
    assert [event for event, _ in events(pcm)] == ["start", "stop"]


def test_an_utterance_holds_all_that_was_said() -> None:
    spoken = voice()
    pcm = np.concatenate([silence(2), spoken, silence(2)])
    detector = UtteranceDetector()
    for frame in frames(pcm):
        detector.take(frame)
    utterance = detector.utterance()
    assert utterance.hz == HZ
    said = (utterance.values * 32768).astype(np.int16)
    assert said.tobytes().find(spoken.tobytes()) >= 0


def test_an_utterance_without_a_pause_ends_at_its_longest_and_the_next_begins() -> None:
    detector = UtteranceDetector(lambda frame: 0.9)
    longest_s = LONGEST_MS / 1000
    taken = (detector.take(silence(FRAME_S)) for _ in range(round(3 * longest_s / FRAME_S)))
    lengths_s = [len(detector.utterance().values) / HZ for change in taken if change == "stop"]
    assert len(lengths_s) == 3
    assert all(longest_s - 0.5 < length_s < longest_s + FRAME_S for length_s in lengths_s)


def test_a_frame_between_the_thresholds_changes_nothing() -> None:
    probabilities = iter([0.45] * 50 + [0.6] * 2 + [0.45] * 50 + [0.1] * 30)
    detector = UtteranceDetector(lambda frame: next(probabilities))
    said = [detector.take(silence(FRAME_S)) for _ in range(132)]
    assert said.index("start") == 51
    assert said.index("stop") > 102


def test_the_model_hears_speech_and_not_a_siren() -> None:
    activity = voice_activity.VoiceActivity()
    assert np.mean([activity(frame) for frame in frames(voice())]) > 0.7


def test_without_onnx_runtime_the_microphone_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(AudioFlamingoError, match=r"needs ONNX Runtime.*pip install onnxruntime"):
        UtteranceDetector()


def test_a_microphone_gives_what_its_program_records(tmp_path: Path) -> None:
    recorded = frames(room(1, 1000))
    (tmp_path / "room.raw").write_bytes(recorded.tobytes())
    microphone = Microphone(f"cat '{tmp_path / 'room.raw'}'")
    assert np.array_equal(list(microphone), recorded)
    microphone.close()


def test_a_recording_program_that_is_not_there_is_named() -> None:
    with pytest.raises(AudioFlamingoError, match="microphone: nosuchprogram -x: No such file"):
        Microphone("nosuchprogram -x")


@pytest.mark.parametrize("command", ["", "rec 'open"])
def test_a_command_that_is_none_is_an_error_of_one_sentence(command: str) -> None:
    with pytest.raises(AudioFlamingoError, match="microphone: "):
        Microphone(command)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sh -c 'echo ALSA lib: no such device >&2; exit 1'", r"code 1 \(ALSA lib: no such device\)"),
        ("false", r"code 1 \(it said nothing\); connect a recording device"),
        ("true", r"code 0 \(it said nothing\)"),
        ("sh -c 'head -c 4096 /dev/zero; exit 3'", "code 3"),
    ],
)
def test_a_recorder_without_a_device_is_an_error(command: str, said: str) -> None:
    microphone = Microphone(command)
    with pytest.raises(AudioFlamingoError, match=said):
        list(microphone)
    microphone.close()


def test_a_recorder_that_is_stopped_is_no_error() -> None:
    microphone = Microphone("cat /dev/zero")
    stream = iter(microphone)
    next(stream)
    microphone.close()
    for _ in stream:
        pass


def test_without_a_recorder_the_microphone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioFlamingoError, match="no recording program is installed"):
        Microphone.find()
