"""Downloads a voice's checkpoint from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from build_engines.stage import BuildError


def hub_folder(name: str, patterns: Sequence[str], otherwise: str) -> Path:
    """The folder of the files of repository `name` that match `patterns`; downloads what is missing.

    Raises BuildError if the hub does not give them; `otherwise` says what to do then.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise BuildError(f"VOICE={name}: the hub does not give this voice ({error}); {otherwise}") from error
