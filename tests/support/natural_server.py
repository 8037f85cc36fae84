"""af3-tiny that speaks in the natural voice, and what that voice says as a microphone would hear it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soxr

from af3.speech.engines.kokoro import SAMPLE_RATE, KokoroSynthesizer
from af3.speech.pcm import shape
from build_engines import stage
from build_engines.source.checkpoint import open_checkpoint
from build_engines.voice import choose_voice
from serving.host.triton import Server
from tests.support.engines import build_cpu_engines
from tests.support.ready_server import ready_server
from training.scenes import COMMANDS, DIGITS

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "af3-tiny"
VOICE = "af_heart"  # what the server speaks with unless asked for another
WORDS = (*DIGITS, *COMMANDS)


@contextmanager
def natural_server(folder: Path) -> Iterator[Server]:
    """Builds the engines below `folder`, with the real Kokoro, and serves them."""
    build_cpu_engines(open_checkpoint(str(CHECKPOINT)), "fp32", folder / "engines" / "cpu")
    stage.run([choose_voice.stage("kokoro")], folder / "engines" / "cpu")
    with ready_server(folder) as server:
        yield server


def said(voices: KokoroSynthesizer, name: str, text: str, hz: int) -> np.ndarray:
    """float32 [n] at `hz`, as the server speaks a segment, with a fifth of a second of silence around it."""
    voice = voices.voice(name, 1.0)
    pcm = np.concatenate(list(shape(voice.speak(voice.speakable(text)), SAMPLE_RATE, 0.0)))
    return np.pad(soxr.resample(pcm.astype(np.float32) / 32768, SAMPLE_RATE, hz), hz // 5)
