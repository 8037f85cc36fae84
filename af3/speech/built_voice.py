"""The voice that was built beside a server's engines, as its files tell. Loads no engine: the door asks, too."""

from __future__ import annotations

import json
from pathlib import Path

from af3.speech.engines import espeak

VOICE_FOLDER = "voice"
SETTINGS_FILE = "voice.json"  # in it; every engine's own, with a `name`


def built_voice(folder: Path) -> str | None:
    """Name of what was built in `folder`, for the manifest; None if nothing was."""
    settings = voice_settings(folder)
    return None if settings is None else str(settings["name"])


def built_licence(folder: Path) -> str | None:
    """The licence of what was built in `folder`, where its files say it."""
    return (voice_settings(folder) or {}).get("licence")


def available_voices(engine_dir: Path) -> tuple[str, ...]:
    """Names of all voices, the default first. Loads nothing."""
    settings = voice_settings(engine_dir / VOICE_FOLDER)
    built = () if settings is None else tuple(settings.get("voices", [settings["name"]]))
    return built + tuple(espeak.VOICES)


def voice_settings(folder: Path) -> dict | None:
    """What the voice's `voice.json` holds; None where none was built."""
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return None
    # Beyond the names it may be of another version.
    settings: dict = json.loads(path.read_text(encoding="utf-8"))
    return settings
