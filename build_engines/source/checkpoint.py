"""Opens a checkpoint in Hugging Face format: checks it, identifies it, and reads its tensors."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from transformers import AudioFlamingo3EncoderConfig, AutoProcessor, Qwen2Config

from build_engines.source import original_layout, quantised
from build_engines.source.content_hash import content_hash
from build_engines.source.family import MODEL_TYPES, AudioConfig, Family, Processor, family_of
from build_engines.source.hub_checkpoint import (
    CONFIG,
    INDEX,
    REQUIRED_FILES,
    SINGLE,
    SMALL_FILES,
    download,
    download_small,
)
from build_engines.source.quantised import Quantisation
from build_engines.stage import BuildError

PACKED = re.compile(r"(.+)\.(?:qweight|weight_packed)$")  # a quantised layer's weights


@dataclass(frozen=True)
class Stored:
    """How a tensor is stored, without its values. dtype: safetensors' name of it, such as BF16 or I32."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def is_float(self) -> bool:
        return "F" in self.dtype

    @property
    def item_bytes(self) -> int:
        return int(re.sub(r"\D", "", self.dtype)) // 8


@dataclass(frozen=True)
class Checkpoint:
    """A checked checkpoint folder. `name` is what the operator gave; `files` maps tensor → safetensors file.

    quantisation: of the LLM; only `packed.open_for_vllm` opens such a checkpoint.
    """

    name: str
    folder: Path
    family: Family
    config: AudioConfig
    files: dict[str, Path]
    quantisation: Quantisation | None = None

    @property
    def text_config(self) -> Qwen2Config:
        return cast(Qwen2Config, self.config.text_config)

    @property
    def audio_config(self) -> AudioFlamingo3EncoderConfig:
        return cast(AudioFlamingo3EncoderConfig, self.config.audio_config)

    @cached_property
    def sha256(self) -> str:
        """Hash of the name and content of every file that decides the model's answers."""
        digest = hashlib.sha256()
        small = [self.folder / name for name in SMALL_FILES if (self.folder / name).exists()]
        for path in [*small, *sorted(set(self.files.values()))]:
            digest.update(f"{path.name} {content_hash(path)}\n".encode())
        return digest.hexdigest()

    @cached_property
    def processor(self) -> Processor:
        """Transformers' processor, of the class that the checkpoint names.

        Raises BuildError when that class belongs to another family: a renamed checkpoint would be built without RoTE
        or boundary tokens.
        """
        named = _processor_name(self.folder)
        if named not in (None, *self.family.processor_names):
            raise BuildError(
                f"{self.folder}: config.json is that of {self.config.model_type}, but its processor is a {named}; "
                "give the checkpoint as it was published"
            )
        loader = AutoProcessor if named is None else self.family.processor
        return loader.from_pretrained(self.folder)

    @property
    def windows_per_clip(self) -> int:
        """Windows of 30 s that Transformers' processor accepts per clip; the model was not trained on longer ones."""
        return int(self.processor.max_audio_len // self.processor.feature_extractor.chunk_length)

    def has(self, name: str) -> bool:
        """Whether the checkpoint has a tensor of this canonical name."""
        return name in self._stored_names

    @cached_property
    def weights(self) -> frozenset[str]:
        """Canonical names of all tensors, with one `.weight` for each quantised layer."""
        return frozenset(
            f"{layer}.weight" if (layer := packed_layer(name)) else name for name in self._stored_names
        )

    def tensor(self, name: str) -> torch.Tensor:
        """Read one tensor by its canonical name (see `canonical_name`), in its stored dtype."""
        path, stored = self._locate(name)
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(stored)

    def rows(self, name: str, block: int) -> Iterator[torch.Tensor]:
        """Read a matrix in blocks of `block` rows, so that an embedding table is never wholly in memory."""
        path, stored = self._locate(name)
        with safe_open(path, framework="pt") as file:
            matrix = file.get_slice(stored)
            for start in range(0, matrix.get_shape()[0], block):
                yield matrix[start : start + block]

    @cached_property
    def stored(self) -> dict[str, Stored]:
        """What is stored under each canonical name."""
        found = {}
        for path in sorted(set(self.files.values())):
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  not a dict
                    part = file.get_slice(name)
                    found[canonical_name(name)] = Stored(part.get_dtype(), tuple(part.get_shape()))
        return found

    def module_state(self, prefix: str) -> dict[str, torch.Tensor]:
        """The fp32 state dict of the module whose tensors start with `prefix`, e.g. `audio_tower.`"""
        names = [name for name in self._stored_names if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.tensor(name).float() for name in names}

    @cached_property
    def _stored_names(self) -> dict[str, str]:
        return {canonical_name(stored): stored for stored in self.files}

    def _locate(self, name: str) -> tuple[Path, str]:
        if not self.has(name):
            raise BuildError(f"{self.folder}: no tensor {name} in the checkpoint; is the download complete?")
        stored = self._stored_names[name]
        return self.files[stored], stored


def canonical_name(stored: str) -> str:
    """Convert a stored tensor name, of any Transformers version, to the name in Transformers' modules.

    Hub files have `language_model.model.layers…` and `language_model.lm_head…`; others have
    `model.language_model…` and `lm_head…`; 5.20 writes `language_model.model.model.layers…`. Canonical:
    `audio_tower.…`, `multi_modal_projector.…`, `language_model.layers.…`, `lm_head.…`.
    """
    name = stored.removeprefix("model.")
    if name.startswith("language_model.lm_head."):
        return name.removeprefix("language_model.")
    return re.sub(r"^language_model\.(model\.)+", "language_model.", name)


def packed_layer(name: str) -> str | None:
    """The layer whose packed weights a tensor of this name holds; None for other tensors."""
    found = PACKED.match(name)
    return found and found[1]


def open_checkpoint(source: str) -> Checkpoint:
    """Open a local folder, or download a hub id first (an interrupted download resumes).

    A folder in NVIDIA's original layout is rewritten in Transformers' first.

    Raises BuildError when it is another model, incomplete, or quantised.
    """
    folder = _located(source)
    if method := quantised.method_of(_written(folder)):
        raise BuildError(
            f"{folder / CONFIG}: its weights are quantised already ({method}), which only vLLM serves: make engines"
            " GPU=any, GPU=rtx or LLM=vllm; or give the checkpoint as NVIDIA published it and name the precision,"
            " PRECISION=fp8 or int4"
        )
    return _opened(source, folder)


def open_stored(source: str) -> Checkpoint:
    """The same for a checkpoint that may be quantised; `packed.open_for_vllm` checks the tensors too."""
    return _opened(source, _located(source))


def read_quantisation(source: str) -> Quantisation | None:
    """How an LLM is quantised; of a hub id only the small files are downloaded. Raises BuildError."""
    folder = Path(source)
    if not folder.exists():
        folder = download_small(source)
    if original_layout.is_original(folder):
        return None
    return quantised.read(folder / CONFIG, _written(folder))


def _located(source: str) -> Path:
    folder = Path(source)
    if not folder.exists():
        folder = download(source)
    return original_layout.converted(folder) if original_layout.is_original(folder) else folder


def _opened(source: str, folder: Path) -> Checkpoint:
    written = _written(folder)
    family, config = _read_config(folder, written)
    for name in REQUIRED_FILES:
        if not (folder / name).exists():
            raise BuildError(f"{folder}: {name} is missing; download the checkpoint again")
    quantisation = quantised.read(folder / CONFIG, written)
    files = _tensor_files(folder)
    packed = next(filter(None, map(packed_layer, files)), None)
    if packed and quantisation is None:
        raise BuildError(
            f"{folder}: {packed} is quantised, but {CONFIG} has no quantization_config; copy it from the folder's"
            " quantize_config.json or quant_config.json, with quant_method"
        )
    return Checkpoint(source, folder, family, config, files, quantisation)


def _read_config(folder: Path, written: Mapping[str, Any]) -> tuple[Family, AudioConfig]:
    path = folder / CONFIG
    model_type = written.get("model_type")
    family = family_of(model_type)
    if family is None:
        raise BuildError(
            f"{path}: model_type is {model_type!r}, none of {', '.join(MODEL_TYPES)}; give an Audio Flamingo 3, "
            "Audio Flamingo Next or Music Flamingo checkpoint in Hugging Face format, e.g. "
            "nvidia/audio-flamingo-3-hf"
        )
    others = [name for name in written.get("architectures") or () if name not in family.architectures]
    if others:
        raise BuildError(
            f"{path}: model_type is {model_type!r}, but architectures names {', '.join(others)}; give the "
            "checkpoint as it was published"
        )
    return family, family.config.from_pretrained(folder)


def _written(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        raise BuildError(f"{folder}: no {CONFIG}; give the folder of a checkpoint in Hugging Face format")
    return json.loads(path.read_text(encoding="utf-8"))


def _processor_name(folder: Path) -> str | None:
    """The processor class that the checkpoint's files name, searched in Transformers' order."""
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        path = folder / name
        named = json.loads(path.read_text(encoding="utf-8")).get("processor_class") if path.exists() else None
        if named is not None:
            return named
    return None


def _tensor_files(folder: Path) -> dict[str, Path]:
    """Map tensors to safetensors files, from the index of a sharded checkpoint or from its single file."""
    index = folder / INDEX
    if index.exists():
        files = {name: folder / shard for name, shard in json.loads(index.read_text())["weight_map"].items()}
    else:
        files = dict.fromkeys(_names_in(folder / SINGLE), folder / SINGLE)
    missing = sorted({path.name for path in files.values() if not path.exists()})
    if missing:
        raise BuildError(f"{folder}: {', '.join(missing)} missing; download the checkpoint again")
    return files


def _names_in(path: Path) -> list[str]:
    if not path.exists():
        raise BuildError(f"{path.parent}: neither {path.name} nor {INDEX}; download the checkpoint again")
    with safe_open(path, framework="pt") as file:
        return list(file.keys())
