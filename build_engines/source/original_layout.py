"""A checkpoint in NVIDIA's original layout, as Audio Flamingo 3 Chat is published, rewritten as Transformers reads it.

    config.json          model_type llava_llama
    llm/                 a Qwen2ForCausalLM and its tokenizer
    sound_tower/         AF-Whisper, with the names and the settings of Qwen2AudioEncoder
    sound_mm_projector/  the adaptor: layers.0 and layers.2

No tensor is changed, only renamed. Of the streaming voice that Chat was shown with nothing is published.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3Processor,
    AutoTokenizer,
    GenerationConfig,
    Qwen2Config,
    WhisperFeatureExtractor,
)

from build_engines.source.chat_template import CHAT_TEMPLATE
from build_engines.source.content_hash import cache_folder, content_hash
from build_engines.stage import BuildError

MODEL_TYPE = "llava_llama"
LLM, TOWER, ADAPTOR = "llm", "sound_tower", "sound_mm_projector"
PREFIXES = {LLM: "language_model.", TOWER: "audio_tower.", ADAPTOR: "multi_modal_projector."}
ADAPTOR_LAYERS = {"layers.0.": "linear_1.", "layers.2.": "linear_2."}
DOWNLOADED = ["config.json", *(f"{part}/*" for part in PREFIXES)]
FORMAT = 1  # of what `converted` writes
SYSTEM_PROMPT = "You are a helpful assistant."
SOUND = "<sound>"
# Of Music Flamingo, whose audio needs what this layout's settings do not say.
FOREIGN_TOKEN = "<|sound_bos|>"


def is_original(folder: Path) -> bool:
    """Whether the checkpoint in `folder` is in this layout."""
    path = folder / "config.json"
    return path.exists() and _read(path).get("model_type") == MODEL_TYPE


def converted(folder: Path) -> Path:
    """The same checkpoint in Transformers' layout, written once into this user's cache (17 GB for the real one).

    Raises BuildError when a part is missing, or when it is another model.
    """
    files = {part: _weight_files(folder, part) for part in PREFIXES}
    result = cache_folder() / "converted" / _identity(folder)
    if result.exists():
        return result
    size = sum(path.stat().st_size for paths in files.values() for path in paths)
    result.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(result.parent).free) < size:
        raise BuildError(
            f"{folder}: rewriting it in Transformers' layout takes {size / 1e9:.1f} GB in {result.parent}, and "
            f"{free / 1e9:.1f} GB are free; make room, or set XDG_CACHE_HOME to another disk"
        )
    draft = result.with_name(f".{result.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        print(f"{folder}: NVIDIA's original layout, rewritten in {result}")
        _write(folder, files, draft)
        draft.replace(result)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return result


def _write(folder: Path, files: Mapping[str, list[Path]], draft: Path) -> None:
    processor = _processor(folder)
    shapes: dict[str, tuple[int, ...]] = {}
    weight_map: dict[str, str] = {}
    for number, (part, path) in enumerate((part, path) for part, paths in files.items() for path in paths):
        weights = dict(_renamed(part, path))
        name = f"model-{number:05d}.safetensors"
        save_file(weights, draft / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(weights, name)
        shapes |= {stored: tuple(weight.shape) for stored, weight in weights.items()}
        dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    index = {"metadata": {}, "weight_map": weight_map}
    (draft / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    processor.save_pretrained(draft)
    config = AudioFlamingo3Config(
        text_config=_text_config(folder, shapes),
        audio_config=_audio_config(folder, shapes),
        audio_token_id=processor.audio_token_id,
        architectures=["AudioFlamingo3ForConditionalGeneration"],
        dtype=dtype,
    )
    config.save_pretrained(draft)
    if (folder / LLM / "generation_config.json").exists():
        GenerationConfig.from_pretrained(folder / LLM).save_pretrained(draft)


def _renamed(part: str, path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a file under their names in Transformers."""
    with safe_open(path, framework="pt") as file:
        for stored in file.keys():  # noqa: SIM118  not a mapping
            name = stored
            if part == ADAPTOR:
                layer = next((layer for layer in ADAPTOR_LAYERS if stored.startswith(layer)), None)
                if layer is None:
                    raise BuildError(f"{path}: {stored} is no part of Audio Flamingo 3's adaptor")
                name = ADAPTOR_LAYERS[layer] + stored.removeprefix(layer)
            yield PREFIXES[part] + name, file.get_tensor(stored)


def _processor(folder: Path) -> AudioFlamingo3Processor:
    tokenizer = AutoTokenizer.from_pretrained(folder / LLM)
    known = tokenizer.get_vocab()
    if FOREIGN_TOKEN in known:
        raise BuildError(
            f"{folder}: its tokenizer has {FOREIGN_TOKEN}, so it is Music Flamingo or Audio Flamingo Next, which are "
            "not read in their original layout; give the checkpoint whose name ends in -hf"
        )
    if SOUND not in known:
        raise BuildError(f"{folder / LLM}: its tokenizer has no {SOUND}; download the checkpoint again")
    template = CHAT_TEMPLATE.replace("@", SYSTEM_PROMPT)
    tokenizer.chat_template = template
    return AudioFlamingo3Processor(
        feature_extractor=WhisperFeatureExtractor(
            feature_size=_settings(folder, TOWER)["num_mel_bins"], return_attention_mask=True
        ),
        tokenizer=tokenizer,
        chat_template=template,
    )


def _text_config(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    settings = _settings(folder, LLM)
    if settings.get("model_type") != "qwen2":
        raise BuildError(
            f"{folder / LLM / 'config.json'}: model_type is {settings.get('model_type')!r}, must be 'qwen2'"
        )
    # The original code makes room for its own tokens when it loads a model.
    rows = shapes["language_model.model.embed_tokens.weight"][0]
    return Qwen2Config.from_pretrained(folder / LLM).to_dict() | {"vocab_size": rows}


def _audio_config(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Sizes that the weights have; the number of heads stands in the settings alone."""
    settings = _settings(folder, TOWER)
    width, mels, _ = shapes["audio_tower.conv1.weight"]
    layers = {name.split(".")[2] for name in shapes if name.startswith("audio_tower.layers.")}
    return {
        "model_type": "audioflamingo3_encoder",
        "num_mel_bins": mels,
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": settings["encoder_attention_heads"],
        "intermediate_size": shapes["audio_tower.layers.0.fc1.weight"][0],
        "max_source_positions": shapes["audio_tower.embed_positions.weight"][0],
    }


def _settings(folder: Path, part: str) -> dict[str, Any]:
    needed = {LLM: "model_type", TOWER: "encoder_attention_heads"}[part]
    path = folder / part / "config.json"
    settings = _read(path) if path.exists() else {}
    if needed not in settings:
        raise BuildError(f"{path}: it does not say {needed}; download the checkpoint again")
    return settings


def _weight_files(folder: Path, part: str) -> list[Path]:
    """The safetensors files of a part, all there."""
    index = folder / part / "model.safetensors.index.json"
    names = sorted(set(_read(index)["weight_map"].values())) if index.exists() else ["model.safetensors"]
    missing = [name for name in names if not (folder / part / name).exists()]
    if missing:
        raise BuildError(f"{folder / part}: {', '.join(missing)} missing; download the checkpoint again")
    return [folder / part / name for name in names]


def _identity(folder: Path) -> str:
    paths = sorted(path for part in PREFIXES for path in (folder / part).iterdir() if path.is_file())
    lines = [f"{path.relative_to(folder)} {content_hash(path)}" for path in paths]
    return hashlib.sha256("\n".join([str(FORMAT), *lines]).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
