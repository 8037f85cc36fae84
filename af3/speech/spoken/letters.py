"""Prepares text for voices trained only on letters, such as MMS: no digits, no abbreviations."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container

from af3.speech.spoken.numbers import in_words

_NAMES = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (
            "ay bee see dee ee eff jee aitch eye jay kay ell em en oh pee cue ar ess tee you vee double-you ex why zee"
        ).split(),
        strict=True,
    )
)
# Single letters except the words "I" and "a", and capitals without a vowel: BPM, MP.
_SPELLED = re.compile(
    r"(?<!['’])\b(?:[B-HJ-Z]|A(?=-)|[b-hj-z]|[B-DF-HJ-NP-TV-XZ]{2,6})\b(?!')|\b[ap]\.?m\b\.?"
)


def letters_only(text: str, language: str, vocabulary: Container[str]) -> str:
    """Spell out numbers and single English letters, and remove accents that the voice does not know."""
    if "1" not in vocabulary:
        text = in_words(text, language)
        if language == "eng":
            text = _SPELLED.sub(_spell, text)
    known = "".join(_known(character, vocabulary) for character in text)
    return text if known == text else " ".join(known.split())


def _spell(found: re.Match[str]) -> str:
    return " ".join(_NAMES[letter] for letter in found[0].upper() if letter in _NAMES)


def _known(character: str, vocabulary: Container[str]) -> str:
    """Return the character, its base letter, or a space if it separates words."""
    if character in vocabulary or character.lower() in vocabulary:
        return character
    letter = unicodedata.normalize("NFD", character)[0]
    if letter in vocabulary or letter.lower() in vocabulary:
        return letter
    return "" if character.isalnum() else " "
