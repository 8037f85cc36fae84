"""Resolves a request's voice: a voice of this server, a mix of several, or one of OpenAI's names.

Only this module knows OpenAI's names; every interface that takes a voice calls `resolve`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from af3.errors import invalid

# OpenAI's name → similar voices, best first: Kokoro's, then those without weights. A server that has none of them uses
# its default voice.
OPENAI_VOICES: Mapping[str, tuple[str, ...]] = {
    "alloy": ("af_alloy", "en-us-female"),
    "ash": ("am_michael", "en-us"),
    "ballad": ("bm_george", "en-gb"),
    "coral": ("af_bella", "en-us-female"),
    "echo": ("am_echo", "en-us-low"),
    "fable": ("bm_fable", "en-gb"),
    "nova": ("af_nova", "en-us-female"),
    "onyx": ("am_onyx", "en-us-low"),
    "sage": ("af_sarah", "en-us-female"),
    "shimmer": ("bf_emma", "en-gb-female"),
    "verse": ("am_puck", "en-us"),
    "cedar": ("am_fenrir", "en-us-low"),
    "marin": ("af_heart", "en-us-female"),
}

_PART = re.compile(r"(?P<name>[^:+]+)(?::(?P<weight>\d+(?:\.\d+)?))?")
_MIXABLE = re.compile(r"[a-z][fm]_[a-z]+")  # Kokoro's names; its voices are vectors


def resolve(name: str, available: Sequence[str]) -> str:
    """Return the voice or mix of `available` that `name` means.

    Raises a RequestError that lists the available voices.
    """
    if name in available:
        return name
    if name in OPENAI_VOICES and available:
        return next((voice for voice in OPENAI_VOICES[name] if voice in available), available[0])
    if "+" not in name and ":" not in name:
        raise invalid(f"parameter 'voice': there is no {name!r}; choose one of {', '.join(available)}")
    for part in mix(name):
        if part not in available or not _MIXABLE.fullmatch(part):
            voices = ", ".join(voice for voice in available if _MIXABLE.fullmatch(voice))
            raise invalid(
                f"parameter 'voice': {part!r} cannot be mixed; those that can: {voices or 'none on this server'}"
            )
    return name


def mix(name: str) -> dict[str, float]:
    """Parse `af_heart:0.7+af_sky:0.3` into voices and shares that add up to 1; a part without a weight has weight 1.

    Raises a RequestError for anything else.
    """
    weights: dict[str, float] = {}
    for part in name.split("+"):
        found = _PART.fullmatch(part)
        if found is None:
            raise invalid(f"parameter 'voice': {name!r} is not a mix; write it as af_heart:0.7+af_sky:0.3")
        weights[found["name"]] = weights.get(found["name"], 0.0) + float(found["weight"] or 1)
    total = sum(weights.values())
    if not total > 0:
        raise invalid(f"parameter 'voice': the weights of {name!r} add up to 0; give one of them more")
    return {voice: weight / total for voice, weight in weights.items()}
