"""The voices of a server: the one built beside its engines, then the offline ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from af3.errors import RequestError
from af3.speech.built_voice import VOICE_FOLDER, voice_settings
from af3.speech.engines import espeak, kokoro, vits
from af3.speech.voice import Synthesizer, Voice, VoiceFailed
from af3.speech.voice_names import mix, resolve

log = logging.getLogger("af3")


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
        folder = engine_dir / VOICE_FOLDER
        settings = voice_settings(folder)
        if settings is not None:
            neural = _ENGINES.get(settings.get("engine", "vits"), _unknown)
            loaders.insert(0, partial(neural, folder, provider, threads))
        return cls(loaders)

    def voice(self, name: str | None, rate: float) -> Voice:
        """Open a voice, a mix or one of OpenAI's names; None opens the first of `voices`.

        Raises VoiceFailed if the voice failed to load.
        """
        if name is None:
            name = next(iter(self.voices), "any")
        try:
            name = resolve(name, self.voices)
            owner = self._owner[next(iter(mix(name)))]
        except (RequestError, KeyError):
            raise VoiceFailed(f"voice {name!r} could not be loaded; the log of the server says why") from None
        return owner.voice(name, rate)

    def close(self) -> None:
        for synthesizer in self._synthesizers:
            synthesizer.close()


def _unknown(folder: Path, provider: str, threads: int) -> Synthesizer:
    raise ValueError(
        f"{folder}: of an engine that this server does not know; run `make engines VOICE=…` again"
    )


_ENGINES: dict[str, Callable[[Path, str, int], Synthesizer]] = {
    "vits": vits.VitsSynthesizer.load,
    kokoro.ENGINE: kokoro.KokoroSynthesizer.load,
}
