"""Builds the natural voice of a server from Kokoro-82M.

    make engines VOICE=kokoro|FOLDER|HUB_ID

The published graph is made faster (`kokoro_graph.py`), and the waveforms of both are compared.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from af3.speech.built_voice import SETTINGS_FILE, VOICE_FOLDER
from af3.speech.engines import kokoro
from af3.speech.engines.kokoro import KokoroGraph, KokoroSettings
from build_engines.stage import BuildError, Figures, Stage, require
from build_engines.voice import kokoro_graph
from build_engines.voice.kokoro_files import LICENCE, NAME, KokoroFiles, find

BOUND = 1e-4  # of the waveform, whose full scale is 1; measured: 0
_SPOKEN = (
    ("ðə spˈikəɹ sˈɛz θɹˈi.", 1.0),
    ("ˈI kæn hˈɪɹ ɐ dˈɔɡ bˈɑɹkɪŋ, ænd ɐ kˈɑɹ dɹˈIvz əwˈA slˈOli.", 1.0),
    ("ðə kwˈɪk bɹˈWn fˈɑks.", 0.5),
    ("nˈO, ðɛɹ ɪz nˈO mjˈuzɪk!", 2.0),
)


def stage(voice: str) -> Stage:
    """The build step; `voice` as for `kokoro_files.find`."""
    files = find(voice)
    decides = {"files": files.hashes, "vocabulary": dict(files.vocabulary)}
    return Stage(
        VOICE_FOLDER,
        build=partial(build, files),
        inputs={"kokoro": hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()},
        code=(sys.modules[__name__],),
        packages=("onnx", "onnxruntime"),
    )


def build(files: KokoroFiles, output: Path) -> Figures:
    """Write graph, styles and `voice.json`, and compare with the published graph. Raises BuildError."""
    model = onnx.load(files.graph)
    names = [value.name for value in model.graph.input]
    tokens = next((name for name in names if name in ("tokens", "input_ids")), None)
    if tokens is None or not {"style", "speed"} <= set(names):
        raise BuildError(
            f"{files.graph}: its inputs are {', '.join(names)}, not tokens, style and speed: this is not Kokoro"
        )
    settings = KokoroSettings(
        engine=kokoro.ENGINE,
        name=NAME,
        voices=tuple(files.voices),
        vocabulary=dict(files.vocabulary),
        tokens_input=tokens,
        licence=LICENCE,
    )
    onnx.save(kokoro_graph.faster(model), output / kokoro.MODEL_FILE)
    np.save(output / kokoro.STYLES_FILE, files.styles())
    (output / SETTINGS_FILE).write_text(
        json.dumps(asdict(settings), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    print(f"  licence: {LICENCE}")
    if not kokoro.has_vnni():
        print(f"  {kokoro.NO_VNNI}")
    return verify(files, output)


def verify(files: KokoroFiles, folder: Path) -> Figures:
    """Compare the voice in `folder` with the published graph, in the first of its voices."""
    settings, styles = KokoroSettings.read(folder), files.styles()
    built, published = (
        KokoroGraph(settings.tokens_input, kokoro.load_session(path, "CPUExecutionProvider", threads=1))
        for path in (folder / kokoro.MODEL_FILE, files.graph)
    )
    worst = 0.0
    for phonemes, speed in _SPOKEN:
        ids = settings.token_ids(phonemes)
        found, expected = (graph.waveform(ids, styles[0], speed) for graph in (built, published))
        if found.shape != expected.shape:
            raise BuildError(f"the voice makes {len(found)} samples, the published graph {len(expected)}")
        worst = max(worst, float(np.abs(found - expected).max()))
    require("waveform, largest difference from the published graph", worst, BOUND)
    return {"waveform_difference": worst}
