"""Engines that answer at full length: those of a target, with an end token that the model never writes.

A load needs answers of a known length, and perf_analyzer cannot send the parameters that would make them long
(it drops `--request-parameter name:value:double`). Only the manifest differs, so every computation is that of
the real engines; Transformers' `min_new_tokens` does the same to the baseline.
"""

from __future__ import annotations

from pathlib import Path

from af3.manifest import FILE_NAME, Manifest


def link(engines: Path, folder: Path) -> None:
    """Make `folder/engines/<target>`: links to everything in `engines`, and a manifest of its own."""
    manifest = Manifest.read(engines)
    linked = folder / "engines" / engines.name
    linked.mkdir(parents=True)
    for entry in engines.iterdir():
        if entry.name != FILE_NAME:
            (linked / entry.name).symlink_to(entry.resolve())
    # The last row of the embedding table is padding: no token of the tokenizer, never trained to be written.
    unused = manifest.model.vocab_size - 1
    model = manifest.model.model_copy(update={"stop_token_ids": (unused,)})
    manifest.model_copy(update={"model": model}).write(linked)
