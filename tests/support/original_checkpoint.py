"""A checkpoint in NVIDIA's original layout, made up of the tensors of one in Transformers' layout.

As the code of github.com/NVIDIA/audio-flamingo, branch audio_flamingo_3, saves and loads one: `save_pretrained` of
llava_arch.py, a tokenizer of Qwen2 in several files, settings in the words of Transformers 4.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from build_engines.llm import qwen
from build_engines.source.checkpoint import Checkpoint, canonical_name

ADAPTOR = {"linear_1": "layers.0", "linear_2": "layers.2"}


def write(source: Checkpoint, folder: Path) -> None:
    """llm/ in two shards; tower and adaptor in one file each."""
    names = sorted(map(canonical_name, source.files))
    llm = {_llm_name(name): source.tensor(name) for name in names if _llm_name(name)}
    _write_shards(folder / "llm", llm)
    _write_part(folder / "sound_tower", _without(source, names, "audio_tower."))
    adaptor = _without(source, names, "multi_modal_projector.")
    for new, old in ADAPTOR.items():
        adaptor = {name.replace(new, old): weight for name, weight in adaptor.items()}
    _write_part(folder / "sound_mm_projector", adaptor)
    _write_settings(source, folder)
    _write_tokenizer(source, folder / "llm")


def _llm_name(name: str) -> str:
    if name == "lm_head.weight":
        return name
    return name.replace("language_model.", "model.", 1) if name.startswith("language_model.") else ""


def _without(source: Checkpoint, names: list[str], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): source.tensor(name) for name in names if name.startswith(prefix)}


def _write_part(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True)
    save_file(dict(weights), folder / "model.safetensors", metadata={"format": "pt"})


def _write_shards(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True)
    names = sorted(weights)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    _write(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def _write_settings(source: Checkpoint, folder: Path) -> None:
    audio = source.audio_config
    text = qwen.config(source.text_config, "bfloat16") | {"model_max_length": 8192, "use_cache": False}
    _write(folder / "llm" / "config.json", text)
    end, begin = source.text_config.eos_token_id, source.text_config.bos_token_id
    sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    _write(folder / "llm" / "generation_config.json", sampling | {"eos_token_id": [end, begin]})
    tower = {
        "architectures": ["AFWhisperEncoder"],
        "model_type": "qwen2_audio_encoder",
        "d_model": audio.hidden_size,
        "encoder_layers": audio.num_hidden_layers,
        "encoder_attention_heads": audio.num_attention_heads,
        "encoder_ffn_dim": audio.intermediate_size,
        "num_mel_bins": audio.num_mel_bins,
        "max_source_positions": audio.max_source_positions,
    }
    _write(folder / "sound_tower" / "config.json", tower)
    _write(folder / "sound_mm_projector" / "config.json", {"model_type": "sound_mm_projector"})
    whole = {"architectures": ["LlavaLlamaModel"], "model_type": "llava_llama", "llm_cfg": text}
    _write(folder / "config.json", whole | {"sound_tower_cfg": tower, "sound_mm_projector_cfg": {}})


def _write_tokenizer(source: Checkpoint, folder: Path) -> None:
    definition = json.loads((source.folder / "tokenizer.json").read_text(encoding="utf-8"))
    model, added = definition["model"], definition["added_tokens"]
    _write(folder / "vocab.json", model["vocab"])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    _write(folder / "added_tokens.json", {token["content"]: token["id"] for token in added})
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    described = {
        "added_tokens_decoder": {str(token["id"]): {flag: token[flag] for flag in flags} for token in added},
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 8192,
        "padding_side": "right",
    }
    _write(folder / "tokenizer_config.json", described)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
