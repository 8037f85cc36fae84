"""The natural voice: Kokoro-82M on ONNX Runtime, from the files of `build_engines`.

eSpeak NG (a separate program) gives a segment's phonemes, and one run of one graph speaks them. The graph has no random
numbers, so the same text always gives the same samples. Its normalisation layers span the whole segment, so a segment
cannot be cut into pieces; instead an answer's first segment is short (`segmenter.COMPUTED`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from af3.speech.built_voice import SETTINGS_FILE
from af3.speech.engines.espeak import EspeakSynthesizer
from af3.speech.engines.kokoro_phonemes import AMERICAN, BRITISH, LANGUAGES, phonemes
from af3.speech.segmenter import COMPUTED
from af3.speech.spoken.english import in_english
from af3.speech.voice import Pcm, VoiceFailed
from af3.speech.voice_names import mix

ENGINE = "kokoro"
MODEL_FILE = "model.onnx"
STYLES_FILE = "styles.npy"
SAMPLE_RATE = 24000
MOST_TOKENS = 510  # per run, without the two end tokens; a style has one row per length
CPU_INFO = Path("/proc/cpuinfo")
PRECISE = "session.x64quantprecision"
NO_VNNI = (
    "this processor has no VNNI (byte products): the natural voice takes two to three times as long here; where it"
    " cannot keep up, an answer goes on in the offline voice (unless `fallback` is off), which the metric"
    " af3_speech_fallbacks counts"
)

log = logging.getLogger("af3")
Styles = NDArray[np.float32]  # [510, 256]; row n - 1 is for n tokens


@dataclass(frozen=True)
class KokoroSettings:
    """The contents of the voice's `voice.json`. tokens_input: the input's name, which differs between exports."""

    engine: str
    name: str
    voices: tuple[str, ...]  # in the order of the styles, the default first
    vocabulary: dict[str, int]
    tokens_input: str
    licence: str

    @classmethod
    def read(cls, folder: Path) -> KokoroSettings:
        given = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        return cls(**given | {"voices": tuple(given["voices"])})

    def token_ids(self, text: str) -> list[int]:
        """Ids of the phonemes in the vocabulary; skips the others."""
        return [self.vocabulary[phoneme] for phoneme in text if phoneme in self.vocabulary]


class KokoroGraph:
    """The graph in one session. Thread-safe."""

    def __init__(self, tokens_input: str, session: onnxruntime.InferenceSession):
        self._tokens_input = tokens_input
        self._session = session

    def waveform(
        self,
        ids: list[int],
        style: Styles,
        speed: float,
        options: onnxruntime.RunOptions | None = None,
    ) -> NDArray[np.float32]:
        """Speak at most 510 token ids; returns samples in -1…1 at 24 kHz."""
        found: NDArray[np.float32] = self._session.run(
            None,
            {
                self._tokens_input: np.array([[0, *ids, 0]], np.int64),
                "style": style[len(ids) - 1][None],
                "speed": np.array([speed], np.float32),
            },
            options,
        )[0]
        return found.reshape(-1)


class KokoroSynthesizer:
    """Kokoro's voices (style vectors of one model) and mixes of them."""

    def __init__(
        self, settings: KokoroSettings, session: onnxruntime.InferenceSession, styles: NDArray[np.float32]
    ):
        """`styles`: float32 [voices, 510, 256]."""
        self.settings = settings
        self.voices = settings.voices
        self.graph = KokoroGraph(settings.tokens_input, session)
        self._styles = styles
        self._espeak = EspeakSynthesizer(1)  # a segment's phonemes take a millisecond

    @classmethod
    def load(
        cls, folder: Path, provider: str = "CPUExecutionProvider", threads: int = 1
    ) -> KokoroSynthesizer:
        """Load from `engines/<target>/voice/`. Falls back to the CPU when ONNX Runtime lacks the provider."""
        settings = KokoroSettings.read(folder)
        styles = np.load(folder / STYLES_FILE, mmap_mode="r")
        if provider == "CPUExecutionProvider" and not has_vnni():
            log.warning("%s", NO_VNNI)
        return cls(settings, load_session(folder / MODEL_FILE, provider, threads), styles)

    def voice(self, name: str, rate: float) -> KokoroVoice:
        return KokoroVoice(self, name, rate)

    def style(self, name: str) -> Styles:
        """The style of a voice or of a mix."""
        place = self.settings.voices.index
        parts = [np.float32(share) * self._styles[place(voice)] for voice, share in mix(name).items()]
        style: Styles = np.sum(parts, axis=0, dtype=np.float32)
        return style

    def phonemes(self, text: str, language: str) -> str:
        """Phonemes of `text` in the model's alphabet. Raises VoiceFailed."""
        return phonemes(text, language, self._espeak.phonemes)

    def close(self) -> None:
        self._espeak.close()


class KokoroVoice:
    """One speaker or mix at one rate. The first part of a mix decides the accent."""

    sample_rate = SAMPLE_RATE
    pace = COMPUTED

    def __init__(self, synthesizer: KokoroSynthesizer, name: str, rate: float):
        self._synthesizer = synthesizer
        self._style = synthesizer.style(name)
        self._language = LANGUAGES[name[0]]
        self._rate = rate
        self._options = onnxruntime.RunOptions()

    def speakable(self, text: str) -> str:
        """Spell out signs and numbers in English; eSpeak NG does it for other languages."""
        return in_english(text) if self._language in (AMERICAN, BRITISH) else text

    def speak(self, text: str) -> Generator[Pcm, None, None]:
        ids = self._synthesizer.settings.token_ids(self._synthesizer.phonemes(text, self._language))
        try:
            for part in parts(ids, self._synthesizer.settings.vocabulary.get(" ")):
                samples = self._synthesizer.graph.waveform(part, self._style, self._rate, self._options)
                yield (np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
        except Exception as error:  # ONNX Runtime's exceptions share no class of their own
            if self._options.terminate:
                return
            raise VoiceFailed("the natural voice failed on a segment") from error

    def interrupt(self) -> None:
        self._options.terminate = True


def parts(ids: list[int], space: int | None) -> Iterator[list[int]]:
    """Cut `ids` into runs of at most 510, at the last space if there is one."""
    while len(ids) > MOST_TOKENS:
        head = ids[:MOST_TOKENS]
        cut = MOST_TOKENS if space not in head else MOST_TOKENS - head[::-1].index(space)
        yield ids[:cut]
        ids = ids[cut:]
    if ids:
        yield ids


def load_session(path: Path, provider: str, threads: int) -> onnxruntime.InferenceSession:
    """Open the graph. threads: the number of concurrent segments; a lone segment uses all of them."""
    here = onnxruntime.get_available_providers()
    return onnxruntime.InferenceSession(
        str(path),
        session_options(threads),
        providers=[provider if provider in here else "CPUExecutionProvider"],
    )


def session_options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the LLM needs the cores too
    if not has_vnni():
        # Without VNNI, products of unsigned and signed bytes can overflow; this makes them exact. With VNNI they are
        # exact anyway, and this would halve the speed.
        options.add_session_config_entry(PRECISE, "1")
    options.enable_mem_pattern = False  # a pattern is kept per shape, and nearly every segment is a new one
    options.log_severity_level = 3
    return options


def has_vnni() -> bool:
    """Whether the processor multiplies unsigned with signed bytes into 32 bits."""
    flags = CPU_INFO.read_text().split() if CPU_INFO.exists() else []
    return "avx512_vnni" in flags or "avx_vnni" in flags
