"""Which voices a server has: the one built beside its engines, then the offline ones."""

from __future__ import annotations

from pathlib import Path

from af3.speech import espeak
from af3.speech.vits import VitsSynthesizer, built_voice
from af3.speech.voice import Synthesizer, Voice

VOICE_FOLDER = "voice"


def available_voices(engine_dir: Path) -> tuple[str, ...]:
    """Names of all voices, the default first; nothing is loaded."""
    built = built_voice(engine_dir / VOICE_FOLDER)
    return (() if built is None else (built,)) + tuple(espeak.VOICES)


class Catalogue:
    """All voices of a server as one synthesizer."""

    def __init__(self, synthesizers: list[Synthesizer]):
        self._owner = {name: owner for owner in synthesizers for name in owner.voices}
        self._synthesizers = synthesizers
        self.voices = tuple(self._owner)

    @classmethod
    def load(cls, engine_dir: Path, threads: int) -> Catalogue:
        """`threads` segments can be spoken at a time."""
        synthesizers: list[Synthesizer] = []
        if built_voice(engine_dir / VOICE_FOLDER) is not None:
            synthesizers.append(VitsSynthesizer.load(engine_dir / VOICE_FOLDER))
        return cls([*synthesizers, espeak.EspeakSynthesizer(threads)])

    def voice(self, name: str, rate: float) -> Voice:
        return self._owner[name].voice(name, rate)

    def close(self) -> None:
        for synthesizer in self._synthesizers:
            synthesizer.close()
