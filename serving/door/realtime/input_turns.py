"""Cuts the user's sound into turns, at pauses or at the client's `commit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clients.sound.turn_detector import START_FRAMES, TurnDetector
from clients.sound.voice_activity import FRAME_MS
from serving.door.realtime.audio_formats import AudioFormat, Clip
from serving.door.realtime.conversation_items import Item, user_audio
from serving.door.realtime.realtime_events import Event, EventError, new_id
from serving.door.realtime.realtime_limits import AudioShare
from serving.door.realtime.session_settings import InputSettings
from serving.door.realtime.sound_worker import Detector, SoundWorker

SHORTEST_MS = 100  # of a commit, as at OpenAI
LONGEST_MS = 300_000  # then a turn is answered as it is, and another begins
KEPT_MS = 2_000  # of silence before the prefix: what the voice activity model has not judged yet


@dataclass(frozen=True)
class TurnCallbacks:
    """emit: an event. started: somebody speaks. committed: a turn is complete; whether by a pause of speech."""

    emit: Callable[[Event], None]
    started: Callable[[], None]
    committed: Callable[[Item, bool], None]


class InputTurns:
    """The input buffer of one session. Positions are milliseconds since the session's first sound."""

    def __init__(self, worker: SoundWorker, memory: AudioShare, callbacks: TurnCallbacks):
        self._worker = worker
        self._memory = memory
        self._on = callbacks
        self._settings = InputSettings()
        self._format = AudioFormat()
        self._pcm = bytearray()
        self._start_ms = 0.0  # where the buffer begins
        self._turns: TurnDetector | None = None
        self._detector: Detector | None = None
        self._detector_ms = 0.0  # where its first frame begins
        self._item_id = ""  # of the turn that is being spoken
        self._begin_ms = 0.0  # of it, with its prefix

    def configure(self, settings: InputSettings) -> None:
        """Sound that is in the buffer stays, unless it is of another format."""
        before = self._settings
        self._settings = settings
        if settings.format.format != self._format:
            self.drop()
            self._format = settings.format.format
        if settings.turn_detection == before.turn_detection and settings.format == before.format:
            return
        self.close_detector()

    async def append(self, data: bytes) -> None:
        """Sound as the session's format has it.

        Raises RequestError when it is too much, SoundLost when nobody listens for pauses.
        """
        pcm = self._format.to_pcm(data)
        self._memory.take(len(pcm))
        if self._settings.turn_detection is not None:
            detector = self._listening()
            self._pcm += pcm
            await detector.feed(pcm)
        else:
            self._pcm += pcm

    def commit(self) -> None:
        """Raises EventError when there is nothing to commit."""
        found_ms = self._ms(len(self._pcm))
        if found_ms < SHORTEST_MS:
            raise EventError(
                f"the input buffer holds {found_ms:.0f} ms of sound, at least {SHORTEST_MS} ms are a turn",
                "input_audio_buffer_commit_empty",
            )
        item_id = self._item_id or new_id("item")
        if self._turns is not None:
            self._turns.reset()
        self._commit(item_id, self._start_ms, self._end_ms, by_pause=False)

    def clear(self) -> None:
        """Throw away what was not committed."""
        self.drop()
        if self._turns is not None:
            self._turns.reset()
        self._on.emit({"type": "input_audio_buffer.cleared"})

    def drop(self) -> None:
        self._forget(self._end_ms)
        self._item_id = ""

    def close_detector(self) -> None:
        """Listen anew from the next sound on."""
        if self._detector is not None:
            self._detector.close()
        self._detector, self._turns, self._item_id = None, None, ""

    @property
    def _end_ms(self) -> float:
        return self._start_ms + self._ms(len(self._pcm))

    def _ms(self, count: int) -> float:
        return 1000 * count / 2 / self._format.hz

    def _bytes(self, ms: float) -> int:
        return 2 * max(0, round(ms * self._format.hz / 1000))

    def _listening(self) -> Detector:
        detection = self._settings.turn_detection
        assert detection is not None
        if self._detector is None or self._turns is None:
            self._turns = TurnDetector(detection.threshold, detection.silence_ms, LONGEST_MS)
            self._detector_ms = self._end_ms
            self._detector = Detector(self._worker, self._format.hz, self._judged)
        return self._detector

    def _judged(self, first_ms: float, probabilities: list[float]) -> None:
        """Frames of FRAME_MS, the first one `first_ms` after the detector began."""
        detection = self._settings.turn_detection
        if self._turns is None or detection is None:
            return
        for place, probability in enumerate(probabilities, 1):
            at_ms = min(self._detector_ms + first_ms + place * FRAME_MS, self._end_ms)
            change = self._turns.take(probability)
            if change == "start":
                self._begin_ms = max(
                    self._start_ms, at_ms - START_FRAMES * FRAME_MS - detection.prefix_padding_ms
                )
                self._forget(self._begin_ms)
                self._item_id = new_id("item")
                self._on.emit(
                    {
                        "type": "input_audio_buffer.speech_started",
                        "audio_start_ms": round(self._begin_ms),
                        "item_id": self._item_id,
                    }
                )
                self._on.started()
            elif change == "stop":
                self._on.emit(
                    {
                        "type": "input_audio_buffer.speech_stopped",
                        "audio_end_ms": round(at_ms),
                        "item_id": self._item_id,
                    }
                )
                self._commit(self._item_id, self._begin_ms, at_ms, by_pause=True)
            elif not self._turns.speaking:
                self._forget(at_ms - detection.prefix_padding_ms - KEPT_MS)

    def _commit(self, item_id: str, begin_ms: float, end_ms: float, by_pause: bool) -> None:
        start = self._bytes(begin_ms - self._start_ms)
        end = self._bytes(end_ms - self._start_ms)
        clip = Clip(bytes(self._pcm[start:end]), self._format.hz)
        self._item_id = ""
        self._forget(end_ms)
        self._memory.take(len(clip.pcm))
        self._on.committed(user_audio(item_id, clip), by_pause)

    def _forget(self, until_ms: float) -> None:
        """Drop the sound before a place."""
        count = min(self._bytes(until_ms - self._start_ms), len(self._pcm))
        if count > 0:
            del self._pcm[:count]
            self._start_ms += self._ms(count)
            self._memory.give_back(count)
