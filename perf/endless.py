"""Links a target's engines with a manifest whose end token the model never writes, so answers have full length.

A load needs answers of known length, and perf_analyzer cannot send the parameters for that (it drops
`--request-parameter name:value:double`). Only the manifest differs, so the computation is that of the real engines;
the baseline uses Transformers' `min_new_tokens` to the same end.
"""

from __future__ import annotations

from pathlib import Path

from af3.manifest import FILE_NAME, Manifest


def link(engines: Path, folder: Path) -> None:
    """Make `folder/engines/<target>`: links to everything in `engines`, with a changed manifest."""
    manifest = Manifest.read(engines)
    linked = folder / "engines" / engines.name
    linked.mkdir(parents=True)
    for entry in engines.iterdir():
        if entry.name != FILE_NAME:
            (linked / entry.name).symlink_to(entry.resolve())
    # The last row of the embedding table is padding: the tokenizer has no such token, and training never wrote it.
    unused = manifest.model.vocab_size - 1
    model = manifest.model.model_copy(update={"stop_token_ids": (unused,)})
    manifest.model_copy(update={"model": model}).write(linked)
