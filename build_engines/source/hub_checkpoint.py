"""Downloads a checkpoint from the hub: its small files, and the weights that its index names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from build_engines.source import original_layout
from build_engines.stage import BuildError

CONFIG = "config.json"
REQUIRED_FILES = (CONFIG, "tokenizer.json")
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
# Listed one by one: the hub repository also holds think/ adapters and a second copy of the weights.
SMALL_FILES = (
    *REQUIRED_FILES,
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
LICENCE_NOTICE = (
    "{name}: these weights are NVIDIA's, under the NVIDIA OneWay Noncommercial License: research and other "
    "non-commercial use only. Their terms stand in the model card at https://huggingface.co/{name}."
)


def download(name: str) -> Path:
    """Download what a build reads, in NVIDIA's original layout too; resumes. Raises BuildError."""
    _require_id(name)
    if name.startswith("nvidia/"):
        print(LICENCE_NOTICE.format(name=name))
    with _explained(name):
        folder = _small(name)
        if original_layout.is_original(folder):
            return Path(snapshot_download(name, allow_patterns=original_layout.DOWNLOADED))
        index = folder / INDEX
        weights = (
            sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else [SINGLE]
        )
        return Path(snapshot_download(name, allow_patterns=[*SMALL_FILES, INDEX, *weights]))


def download_small(name: str) -> Path:
    """Download everything but the weights. Raises BuildError."""
    _require_id(name)
    with _explained(name):
        return _small(name)


def _small(name: str) -> Path:
    return Path(snapshot_download(name, allow_patterns=[*SMALL_FILES, INDEX]))


def _require_id(name: str) -> None:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise BuildError(f"{name}: no such folder, and not a hub id such as nvidia/audio-flamingo-3-hf")


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except GatedRepoError as error:
        raise BuildError(
            f"{name}: the hub asks for a login; accept its terms at https://huggingface.co/{name}, then "
            "`hf auth login` or set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise BuildError(
            f"{name}: no such folder, and no such repository on the hub (or it is private)"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BuildError(
            f"{name}: the download failed ({error}); run the same command again to resume"
        ) from error
