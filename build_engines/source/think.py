"""Merges the checkpoint's `think/` LoRA into the LLM's weights: W + (alpha / r) B A.

With this adapter Audio Flamingo 3 reasons before it answers and handles long clips better. Tower and adaptor were
frozen during its training, so both LLM engines share one encoder engine.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open

from build_engines.source.checkpoint import Checkpoint, canonical_name
from build_engines.stage import BuildError, hash_file

FOLDER = "think"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
NOT_LORA = "non_lora_trainables.bin"
# A layer's path ends like this, whatever wrappers the trainer put around the LLM.
LORA_NAME = re.compile(r"(layers\.\d+\.(?:self_attn|mlp)\.\w+_proj)\.lora_([AB])(?:\.default)?\.weight$")
LLM_PREFIX = "language_model."


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter folder. names: canonical weight name → names of its A and B in the file."""

    folder: Path
    scale: float
    names: dict[str, dict[str, str]]
    replaced: dict[str, torch.Tensor]

    @property
    def sha256(self) -> str:
        """Hash of everything it changes: the matrices, their scale, and weights that it replaces whole."""
        files = [self.folder / name for name in (WEIGHTS, CONFIG, NOT_LORA)]
        hashes = {file.name: hash_file(file) for file in files if file.exists()}
        return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()

    def merged(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Merge the adapter into `weight` of canonical `name`: computed in fp32, returned in the weight's dtype."""
        if name in self.replaced:
            return self.replaced[name].to(weight.dtype)
        if name not in self.names:
            return weight
        a, b = self.matrices(name, weight.shape)
        return (weight.float() + self.scale * (b.float() @ a.float())).to(weight.dtype)

    def matrices(self, name: str, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Read A [r, columns] and B [rows, r] for the weight `name` of `shape`. Raises BuildError."""
        with safe_open(self.folder / WEIGHTS, framework="pt") as file:
            a, b = (file.get_tensor(self.names[name][side]) for side in "AB")
        if (b.shape[0], a.shape[1]) != tuple(shape):
            raise BuildError(
                f"{self.folder}: the adapter of {name} is for a weight of {b.shape[0]} x {a.shape[1]}, "
                f"the checkpoint's is {shape[0]} x {shape[1]}; it belongs to another checkpoint"
            )
        return a, b


def open_adapter(checkpoint: Checkpoint) -> Adapter:
    """Open a checkpoint's adapter; it is downloaded when the checkpoint was.

    Raises BuildError when it is missing, is not plain LoRA, or changes more than the LLM.
    """
    folder = checkpoint.folder / FOLDER
    if not folder.exists() and not Path(checkpoint.name).exists():
        folder = Path(snapshot_download(checkpoint.name, allow_patterns=[f"{FOLDER}/*"])) / FOLDER
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).exists():
            raise BuildError(
                f"THINK=1: {folder / name} is not there; build without THINK, or add the adapter"
            )
    return read_adapter(folder, checkpoint)


def read_adapter(folder: Path, checkpoint: Checkpoint) -> Adapter:
    """Read an adapter for `checkpoint` in PEFT's format. Raises BuildError like `open_adapter`."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).exists():
            raise BuildError(
                f"{folder / name} is not there; an adapter is a folder with {CONFIG} and {WEIGHTS}"
            )
    scale = _scale(folder / CONFIG)
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        names = _pairs(list(file.keys()), folder)
    unknown = sorted(set(names) - checkpoint.weights)
    if unknown:
        raise BuildError(f"{folder}: it adapts {unknown[0]}, which the checkpoint does not have")
    return Adapter(folder, scale, names, _replaced(folder / NOT_LORA, checkpoint))


def _scale(path: Path) -> float:
    """alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA."""
    config = json.loads(path.read_text())
    for key in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save"):
        if config.get(key):
            raise BuildError(f"{path}: {key} is {config[key]!r}; only plain LoRA can be merged")
    if config.get("bias", "none") != "none":
        raise BuildError(f"{path}: bias is {config['bias']!r}; only plain LoRA can be merged")
    rank = config["r"]
    return config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _pairs(stored: list[str], folder: Path) -> dict[str, dict[str, str]]:
    """Canonical weight name → {"A": …, "B": …} of an adapter file's tensor names."""
    pairs: dict[str, dict[str, str]] = {}
    for name in stored:
        found = LORA_NAME.search(name)
        if found is None:
            raise BuildError(f"{folder / WEIGHTS}: {name} is not a LoRA matrix of an LLM layer")
        pairs.setdefault(f"{LLM_PREFIX}{found[1]}.weight", {})[found[2]] = name
    halves = sorted(name for name, pair in pairs.items() if len(pair) != 2)
    if halves:
        raise BuildError(
            f"{folder / WEIGHTS}: {halves[0]} has only one of its two matrices; download it again"
        )
    return pairs


def _replaced(path: Path, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Read the whole LLM weights that were trained beside the LoRA.

    Weights of tower and adaptor must equal the checkpoint's, because their engine is shared.
    """
    if not path.exists():
        return {}
    replaced = {}
    for stored, weight in torch.load(path, map_location="cpu", weights_only=True).items():
        name = _checkpoint_name(stored, checkpoint)
        if name.startswith(LLM_PREFIX) or name == "lm_head.weight":
            replaced[name] = weight
        elif not torch.equal(checkpoint.tensor(name).float(), weight.float()):
            raise BuildError(
                f"{path}: it changes {name}, so the adapter needs an audio encoder of its own, "
                "which is not supported"
            )
    return replaced


def _checkpoint_name(stored: str, checkpoint: Checkpoint) -> str:
    """Find the checkpoint's weight whose name is the longest suffix of `stored`. Raises BuildError without one."""
    known = {canonical_name(name) for name in checkpoint.files}
    words = stored.split(".")
    for start in range(len(words)):
        name = canonical_name(".".join(words[start:]))
        for candidate in (name, f"{LLM_PREFIX}{name}"):
            if candidate in known:
                return candidate
    raise BuildError(f"{stored} of {NOT_LORA}: the checkpoint has no such weight")
