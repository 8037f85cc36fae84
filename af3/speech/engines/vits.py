"""The neural voice: a VITS model (Hugging Face's `VitsModel`) that `build_engines` exported.

It makes the waveform in pieces, so that the first can play while the next is made. The decoder is a stack of
convolutions: with `context_frames` extra frames on either side, a piece equals the same part of the whole.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from af3.speech.built_voice import SETTINGS_FILE
from af3.speech.engines.vits_graphs import load_graphs
from af3.speech.engines.vits_interface import DECODER, FLOW, TEXT, Graphs
from af3.speech.segmenter import INSTANT
from af3.speech.spoken.english import in_english
from af3.speech.spoken.letters import letters_only
from af3.speech.voice import Pcm, VoiceFailed

# In frames, 16 ms each in MMS. The first is short, so that speech begins early, but longer than the look-ahead of
# `af3.speech.pcm`; later ones spend relatively less on their context.
PIECES = (28, 40, 80, 128)


@dataclass(frozen=True)
class VitsSettings:
    """The contents of the voice's `voice.json`."""

    name: str
    sample_rate: int
    speaking_rate: float  # of the checkpoint; a request's rate multiplies it
    vocabulary: dict[str, int]  # one character each
    blank_id: int | None  # stands between all characters, and at both ends
    lower_case: bool
    hop: int  # samples of a frame
    context_frames: int  # how far a sample depends on the frames before and after its own
    language: str = "eng"  # ISO 639-3; voices built before this field existed are English

    @classmethod
    def read(cls, folder: Path) -> VitsSettings:
        return cls(**json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8")))

    def known(self, text: str) -> str:
        """The characters of `text` that the model was trained on, in its case."""
        text = text.lower() if self.lower_case else text
        return "".join(character for character in text if character in self.vocabulary)

    def token_ids(self, text: str) -> list[int]:
        """Ids of the characters the model knows, as `VitsTokenizer` makes them. Skips the others."""
        ids = [self.vocabulary[character] for character in self.known(text).strip()]
        if self.blank_id is None:
            return ids
        blanked = [self.blank_id] * (2 * len(ids) + 1)
        blanked[1::2] = ids
        return blanked


class VitsSynthesizer:
    """One VITS checkpoint: one voice."""

    def __init__(self, settings: VitsSettings, graphs: Graphs):
        self.settings = settings
        self.voices: tuple[str, ...] = (settings.name,)
        self._graphs = graphs

    @classmethod
    def load(cls, folder: Path, provider: str = "CPUExecutionProvider", threads: int = 1) -> VitsSynthesizer:
        """Load from `engines/<target>/voice/`; `provider` and `threads` as in `af3.encoder.choose.load_encoder`."""
        return cls(VitsSettings.read(folder), load_graphs(folder, provider, threads))

    def voice(self, name: str, rate: float) -> VitsVoice:
        return VitsVoice(self, rate)

    def close(self) -> None:
        """Do nothing: there is nothing to free before the process ends."""

    def waveform(self, ids: NDArray[np.int64], speed: float) -> Iterator[NDArray[np.float32]]:
        """Yield samples of character ids [1, n] in pieces, -1…1; equals `VitsModel.forward` with noise scales of 0."""
        means, frames = self._graphs.run(TEXT, ids)
        counts = np.ceil(frames[0] / np.float32(speed)).astype(np.int64)
        (latents,) = self._graphs.run(FLOW, np.repeat(means[0], counts, axis=0).T[None])
        context, hop = self.settings.context_frames, self.settings.hop
        for first, end in _pieces(latents.shape[2]):
            heard_from = max(0, first - context)
            (samples,) = self._graphs.run(DECODER, latents[:, :, heard_from : end + context])
            yield samples[0, (first - heard_from) * hop : (end - heard_from) * hop]


def _pieces(frames: int) -> Iterator[tuple[int, int]]:
    """Start and end of each piece, in frames."""
    first, number = 0, 0
    while first < frames:
        end = min(frames, first + PIECES[min(number, len(PIECES) - 1)])
        yield first, end
        first, number = end, number + 1


class VitsVoice:
    """The speaker of a VITS checkpoint at one rate."""

    pace = INSTANT  # a long segment is sent piece by piece

    def __init__(self, synthesizer: VitsSynthesizer, rate: float):
        self.sample_rate = synthesizer.settings.sample_rate
        self._synthesizer = synthesizer
        self._speed = synthesizer.settings.speaking_rate * rate

    def speakable(self, text: str) -> str:
        """Spell out numbers, and for an English voice signs, in the characters that the model was trained on."""
        settings = self._synthesizer.settings
        if settings.language == "eng":
            text = in_english(text)
        return settings.known(letters_only(text, settings.language, settings.vocabulary))

    def speak(self, text: str) -> Generator[Pcm, None, None]:
        ids = np.array([self._synthesizer.settings.token_ids(text)], np.int64)
        try:
            for piece in self._synthesizer.waveform(ids, self._speed):
                yield (np.clip(piece, -1.0, 1.0) * 32767).astype(np.int16)
        except Exception as error:  # ONNX Runtime's exceptions share no class of their own
            raise VoiceFailed("the neural voice failed on a segment") from error

    def interrupt(self) -> None:
        """Do nothing: a piece takes little time, and the caller stops after it."""
