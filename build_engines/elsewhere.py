"""Dry runs for checkpoints that are not downloaded."""

from __future__ import annotations

from pathlib import Path


def is_elsewhere(checkpoint: str) -> bool:
    """Whether a checkpoint is a hub id that must be downloaded, not a folder."""
    return not Path(checkpoint).exists()


def describe_elsewhere(name: str, output: Path, rows: int) -> None:
    """Print what would be built for `rows` requests at once; downloads nothing."""
    from build_engines.source import reach
    from build_engines.source.hub_checkpoint import LICENCE_NOTICE

    print(LICENCE_NOTICE.format(name=name))
    print(f"{name}: not here; it would be downloaded, and built into {output}: tokenizer, audio_encoder, llm")
    print(reach.describe(reach.published(name).limits(rows)))
