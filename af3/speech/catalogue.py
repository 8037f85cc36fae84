"""The voices of a server: the one built beside its engines, then the offline ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from af3.speech.engines import espeak
from af3.speech.engines.vits import VitsSynthesizer, built_voice
from af3.speech.voice import Synthesizer, Voice, VoiceFailed

VOICE_FOLDER = "voice"

log = logging.getLogger("af3")


def available_voices(engine_dir: Path) -> tuple[str, ...]:
    """Names of all voices, the default first. Loads nothing."""
    built = built_voice(engine_dir / VOICE_FOLDER)
    return (() if built is None else (built,)) + tuple(espeak.VOICES)


class Catalogue:
    """All voices of a server."""

    def __init__(self, loaders: Sequence[Callable[[], Synthesizer]]):
        """A synthesizer that fails to load is logged and skipped."""
        self._synthesizers: list[Synthesizer] = []
        for load in loaders:
            try:
                self._synthesizers.append(load())
            except Exception:
                log.exception("a voice failed to load and is skipped")
        self._owner = {name: owner for owner in self._synthesizers for name in owner.voices}
        self.voices = tuple(self._owner)

    @classmethod
    def load(cls, engine_dir: Path, threads: int, provider: str = "CPUExecutionProvider") -> Catalogue:
        """`threads`: segments spoken at once. `provider`: the ONNX Runtime provider of the neural voice."""
        loaders: list[Callable[[], Synthesizer]] = [partial(espeak.EspeakSynthesizer, threads)]
        if built_voice(engine_dir / VOICE_FOLDER) is not None:
            loaders.insert(0, partial(VitsSynthesizer.load, engine_dir / VOICE_FOLDER, provider, threads))
        return cls(loaders)

    def voice(self, name: str | None, rate: float) -> Voice:
        """Open a voice; `name` None opens the first of `voices`. Raises VoiceFailed if the voice failed to load."""
        if name is None:
            name = next(iter(self.voices), "any")
        if name not in self._owner:
            raise VoiceFailed(f"voice {name!r} could not be loaded; the log of the server says why")
        return self._owner[name].voice(name, rate)

    def close(self) -> None:
        for synthesizer in self._synthesizers:
            synthesizer.close()
