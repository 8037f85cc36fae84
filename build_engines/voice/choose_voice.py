"""The build step of the voice that VOICE= names."""

from __future__ import annotations

from build_engines.stage import Stage
from build_engines.voice import kokoro_files


def stage(voice: str) -> Stage:
    """Kokoro by its name, a hub id or a folder; anything else is a VITS checkpoint. Raises BuildError."""
    if kokoro_files.is_kokoro(voice):
        from build_engines.voice import kokoro_voice

        return kokoro_voice.stage(voice)
    from build_engines.voice import export_voice  # torch and transformers, which Kokoro does not need

    return export_voice.stage(voice)
