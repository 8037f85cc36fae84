"""Checkpoints that are not here: what would be built of them, and nothing downloaded."""

from __future__ import annotations

from pathlib import Path


def is_elsewhere(checkpoint: str) -> bool:
    """Whether a checkpoint is a hub id, to be downloaded, and no folder."""
    return not Path(checkpoint).exists()


def describe_elsewhere(name: str, output: Path, rows: int) -> None:
    """What would be built of a checkpoint that is not here, for so many requests at once; downloads nothing."""
    from build_engines.source import reach
    from build_engines.source.checkpoint import LICENCE_NOTICE

    print(LICENCE_NOTICE.format(name=name))
    print(f"{name}: not here; it would be downloaded, and built into {output}: tokenizer, audio_encoder, llm")
    print(reach.describe(reach.published(name).limits(rows)))
