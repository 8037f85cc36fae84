"""Chooses the build stage for VOICE=."""

from __future__ import annotations

from build_engines.stage import Stage
from build_engines.voice import kokoro_files


def stage(voice: str) -> Stage:
    """Return the stage: Kokoro for its name, hub id or folder; else a VITS checkpoint. Raises BuildError."""
    if kokoro_files.is_kokoro(voice):
        from build_engines.voice import kokoro_voice

        return kokoro_voice.stage(voice)
    from build_engines.voice import export_voice  # imports torch and Transformers, which Kokoro does not need

    return export_voice.stage(voice)
