"""Reads the files of the voice that was built beside a server's engines. Loads no engine, because the door uses it."""

from __future__ import annotations

import json
from pathlib import Path

from af3.speech.engines.offline_voices import VOICES

VOICE_FOLDER = "voice"
SETTINGS_FILE = "voice.json"  # in that folder; its fields depend on the engine, but all have a `name`


def built_voice(folder: Path) -> str | None:
    """Name of the voice built in `folder`, for the manifest; None if there is none."""
    settings = voice_settings(folder)
    return None if settings is None else str(settings["name"])


def built_licence(folder: Path) -> str | None:
    """Licence of the voice built in `folder`, if its files give it."""
    return (voice_settings(folder) or {}).get("licence")


def available_voices(engine_dir: Path) -> tuple[str, ...]:
    """Names of all voices, the default first."""
    settings = voice_settings(engine_dir / VOICE_FOLDER)
    built = () if settings is None else tuple(settings.get("voices", [settings["name"]]))
    return built + tuple(VOICES)


def voice_settings(folder: Path) -> dict | None:
    """Read the voice's `voice.json`; None if no voice was built."""
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return None
    # Only the names are sure to be there: the file may be of another version.
    settings: dict = json.loads(path.read_text(encoding="utf-8"))
    return settings
