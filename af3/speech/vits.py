"""The neural voice: a VITS model (Hugging Face's `VitsModel`) that `build_engines` exported, on ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from af3.speech.numbers import in_words
from af3.speech.voice import Pcm, VoiceFailed

TEXT_FILE, DECODER_FILE = "text.onnx", "decoder.onnx"
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

    def known(self, text: str) -> str:
        """The characters of `text` that the model was trained on, in its case."""
        text = text.lower() if self.lower_case else text
        return "".join(character for character in text if character in self.vocabulary)

    def token_ids(self, text: str) -> list[int]:
        """Ids of the characters the model knows, as `VitsTokenizer` makes them; others are left out."""
        ids = [self.vocabulary[character] for character in self.known(text).strip()]
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

    def __init__(
        self,
        settings: VitsSettings,
        text: onnxruntime.InferenceSession,
        decoder: onnxruntime.InferenceSession,
    ):
        self.settings = settings
        self.voices: tuple[str, ...] = (settings.name,)
        self._text = text
        self._decoder = decoder

    @classmethod
    def load(cls, folder: Path) -> VitsSynthesizer:
        """From `engines/<target>/voice/`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # several segments at a time are the parallelism
        text, decoder = (
            onnxruntime.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])
            for file in (TEXT_FILE, DECODER_FILE)
        )
        return cls(VitsSettings.read(folder), text, decoder)

    def voice(self, name: str, rate: float) -> VitsVoice:
        return VitsVoice(self, rate)

    def close(self) -> None:
        """Nothing to free before the process ends."""

    def waveform(self, ids: NDArray[np.int64], speed: float) -> NDArray[np.float32]:
        """Character ids [1, n] → samples [s] in -1…1. As `VitsModel.forward` with both noise scales 0."""
        means, frames = self._text.run(["means", "frames"], {"input_ids": ids})
        counts = np.ceil(frames[0] / np.float32(speed)).astype(np.int64)
        latents = np.repeat(means[0], counts, axis=0).T[None]
        return self._decoder.run(["waveform"], {"latents": latents})[0][0]


class VitsVoice:
    """The speaker of a VITS checkpoint at one rate."""

    def __init__(self, synthesizer: VitsSynthesizer, rate: float):
        self.sample_rate = synthesizer.settings.sample_rate
        self._synthesizer = synthesizer
        self._speed = synthesizer.settings.speaking_rate * rate

    def speakable(self, text: str) -> str:
        """The characters the model was trained on; numbers in words where it knows no digits."""
        settings = self._synthesizer.settings
        return settings.known(text if "1" in settings.vocabulary else in_words(text))

    def speak(self, text: str) -> Generator[Pcm, None, None]:
        """The segment in one block: VITS decodes all of it at once."""
        ids = np.array([self._synthesizer.settings.token_ids(text)], np.int64)
        try:
            waveform = self._synthesizer.waveform(ids, self._speed)
        except Exception as error:  # ONNX Runtime's exceptions share no class of their own
            raise VoiceFailed("the neural voice failed on a segment") from error
        yield (np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16)
