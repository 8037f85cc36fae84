"""Measures how soon an interrupted answer falls silent; part of `perf.speech`.

Counts from the first loud sample that a real-time microphone hears until the loudspeaker is stopped, and until the
server confirms that it stopped. The tries begin at places spread evenly over a frame of the detector.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from af3 import contract
from clients.client import AudioFlamingo
from clients.commands.talk import Listener, Talk
from clients.request import Parameters
from clients.sound.microphone import FRAME_SAMPLES, HZ, Frame
from clients.sound.playback import Nowhere, Pcm

ROOM_RMS = 30  # of 32768
ROOM_FRAMES = 16  # half a second of quiet before the voice
VOICE = Path("checkpoints/samples/question.wav")
AUDIBLE = 500  # of 32768: the first sample as loud as this begins the voice
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class BargeIn:
    """Seconds from the first loud sample."""

    silent_s: float  # until the loudspeaker was stopped
    stopped_s: float  # until the server had stopped


def measure_all(url: str, clip: Path, prompt: str, parameters: Sequence[Parameters]) -> list[BargeIn]:
    """Ask once for each of `parameters`, in turn, and interrupt each answer as soon as it is heard."""
    quiet = contextlib.redirect_stdout(io.StringIO())  # a talk prints its answers
    with quiet, TimedClient(url, contract.AUDIO_FLAMINGO_SPEECH.name) as flamingo:
        return [
            _measure(flamingo, clip, prompt, given, place * FRAME_SAMPLES // len(parameters))
            for place, given in enumerate(parameters)
        ]


def summary(found: Sequence[BargeIn]) -> str:
    if not found:
        return "no barge-ins"
    silent_ms = [1000 * one.silent_s for one in found]
    stopped_ms = [1000 * one.stopped_s for one in found]
    return (
        f"{len(found)} barge-ins, ms after the first loud sample: silent P50 {np.median(silent_ms):.0f},"
        f" most {max(silent_ms):.0f}; server stopped P50 {np.median(stopped_ms):.0f}, most {max(stopped_ms):.0f}"
    )


class TimedClient(AudioFlamingo):
    """Records when the server last confirmed a stop."""

    stopped_s = 0.0

    def stop_speech(self, request_id: str) -> None:
        super().stop_speech(request_id)
        self.stopped_s = time.monotonic()


class SoundCard(Nowhere):
    """Plays until it is stopped, and records when."""

    def __init__(self) -> None:
        self.given, self.silenced = threading.Event(), threading.Event()
        self.silenced_s = 0.0

    def play(self, pcm: Pcm, hz: int) -> None:
        self.given.set()

    def stop(self) -> None:
        self.silenced_s = time.monotonic()
        self.silenced.set()

    def drain(self) -> None:
        self.silenced.wait(TIMEOUT_S)


class Microphone:
    """Yields quiet, then a voice that begins `late` samples into a frame, in real time."""

    def __init__(self, late: int) -> None:
        self._quiet = ROOM_FRAMES * FRAME_SAMPLES + late
        self.spoke_s = 0.0

    def __iter__(self) -> Iterator[Frame]:
        now_s = time.monotonic()
        self.spoke_s = now_s + self._quiet / HZ
        for frame in _room_and_voice(self._quiet).reshape(-1, FRAME_SAMPLES):
            now_s += FRAME_SAMPLES / HZ
            time.sleep(max(0.0, now_s - time.monotonic()))
            yield frame


def _room_and_voice(quiet: int) -> Frame:
    """Build int16 [n] in whole frames; the voice begins after `quiet` samples of a room."""
    voice, hz = soundfile.read(VOICE, dtype="int16")
    assert hz == HZ
    voice = voice[np.argmax(np.abs(voice) > AUDIBLE) :]
    room = np.random.default_rng(0).normal(0, ROOM_RMS, quiet).astype(np.int16)
    pcm = np.concatenate([room, voice])
    return pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES]


def _measure(flamingo: TimedClient, clip: Path, prompt: str, parameters: Parameters, late: int) -> BargeIn:
    sound_card, microphone = SoundCard(), Microphone(late)
    reply = Talk(flamingo, [sound_card], prompt, TIMEOUT_S, parameters).ask(clip)
    player = threading.Thread(target=reply.play)
    player.start()
    if not sound_card.given.wait(TIMEOUT_S):
        raise TimeoutError(f"no speech within {TIMEOUT_S:g} s")
    listener = Listener(microphone)
    listener.reply = reply
    listener.start()
    for _ in listener.utterances():
        pass
    player.join(TIMEOUT_S)
    return BargeIn(sound_card.silenced_s - microphone.spoke_s, flamingo.stopped_s - microphone.spoke_s)
