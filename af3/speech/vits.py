"""The neural voice: a VITS model (Hugging Face's `VitsModel`) that `build_engines` exported, on ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from af3.speech.numbers import in_words
from af3.speech.voice import Pcm, VoiceFailed

MODEL_FILE = "model.onnx"
SETTINGS_FILE = "voice.json"


@dataclass(frozen=True)
class VitsSettings:
    """What the voice's `voice.json` holds."""

    name: str
    sample_rate: int
    speaking_rate: float  # of the checkpoint; a request's rate multiplies it
    vocabulary: dict[str, int]  # one character each
    blank_id: int | None  # stands between all characters, and at both ends
    lower_case: bool

    @classmethod
    def read(cls, folder: Path) -> VitsSettings:
        return cls(**json.loads((folder / SETTINGS_FILE).read_text()))

    def token_ids(self, text: str) -> list[int]:
        """Ids of the characters the model knows, as `VitsTokenizer` makes them; others are left out."""
        characters = text.lower() if self.lower_case else text
        ids = [self.vocabulary[character] for character in characters if character in self.vocabulary]
        if self.blank_id is None:
            return ids
        blanked = [self.blank_id] * (2 * len(ids) + 1)
        blanked[1::2] = ids
        return blanked


def built_voice(folder: Path) -> str | None:
    """Name of the voice that was built into `folder`; None where there is none."""
    return VitsSettings.read(folder).name if (folder / SETTINGS_FILE).is_file() else None


class VitsSynthesizer:
    """One VITS checkpoint: one voice."""

    def __init__(self, settings: VitsSettings, session: onnxruntime.InferenceSession):
        self._settings = settings
        self._session = session
        self.voices: tuple[str, ...] = (settings.name,)

    @classmethod
    def load(cls, folder: Path) -> VitsSynthesizer:
        """From `engines/<target>/voice/`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the pool of requests is the parallelism
        session = onnxruntime.InferenceSession(folder / MODEL_FILE, options, ["CPUExecutionProvider"])
        return cls(VitsSettings.read(folder), session)

    def voice(self, name: str, rate: float) -> VitsVoice:
        return VitsVoice(self._settings, self._session, rate)

    def close(self) -> None:
        """Nothing to free before the process ends."""


class VitsVoice:
    """The speaker of a VITS checkpoint at one rate."""

    def __init__(self, settings: VitsSettings, session: onnxruntime.InferenceSession, rate: float):
        self.sample_rate = settings.sample_rate
        self._settings = settings
        self._session = session
        self._rate = rate

    def speakable(self, text: str) -> str:
        """The characters the model was trained on; numbers in words where it knows no digits."""
        known = self._settings.vocabulary
        text = text if "1" in known else in_words(text)
        return "".join(c for c in text if (c.lower() if self._settings.lower_case else c) in known)

    def speak(self, text: str) -> Generator[Pcm, None, None]:
        """The segment in one block: VITS decodes all of it at once."""
        ids = np.array([self._settings.token_ids(text)], np.int64)
        speed = np.array([self._settings.speaking_rate * self._rate], np.float32)
        try:
            (waveform,) = self._session.run(["waveform"], {"input_ids": ids, "speaking_rate": speed})
        except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
            raise VoiceFailed("the neural voice failed on a segment") from error
        yield (np.clip(waveform[0], -1.0, 1.0) * 32767).astype(np.int16)
