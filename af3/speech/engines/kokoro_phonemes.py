"""Converts eSpeak NG's IPA to the phonemes that Kokoro was trained on, for each of its languages.

Kokoro writes a diphthong or an affricate as one letter and a syllabic consonant with ᵊ; stress marks are IPA's.
American voices have flaps (T), rhotic vowels as two letters, and no length marks.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from af3.speech.spoken.heteronyms import respelled

AMERICAN, BRITISH = "en-us", "en-gb-x-rp"
# First letter of a voice's name → eSpeak NG's language. Kokoro's Japanese and Chinese need other phonemizers.
LANGUAGES = {"a": AMERICAN, "b": BRITISH, "e": "es", "f": "fr", "h": "hi", "i": "it", "p": "pt-br"}

_DIPHTHONGS = {"a^ɪ": "I", "a^ʊ": "W", "e^ɪ": "A", "ɔ^ɪ": "Y", "o^ʊ": "O", "ə^ʊ": "Q"}
_AFFRICATES = {"d^ʒ": "ʤ", "t^ʃ": "ʧ", "d^z": "ʣ", "t^s": "ʦ"}
_ENGLISH = {
    "ə^l": "ᵊl",
    "ɚ": "əɹ",
    "ɐ": "ə",
    "r": "ɹ",
    "x": "k",
    "ç": "k",
    "ɬ": "l",
    "e": "A",
    "ɾ": "T",
    "ʔ": "t",
}
_AMERICAN = {"ɜːɹ": "ɜɹ", "ɜː^ɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪ^ə": "iə", "o": "ɔ", "ː": ""}
_BRITISH = {"e^ə": "ɛː", "i^ə": "ɪə", "ɒ^ɪ": "Y", "æ": "a"}
_ANYWHERE = {"g": "ɡ", "ʲ": "", "^": "", "\u200d": ""}
_FOREIGN_WORD = re.compile(r"\([^)]*\)")  # eSpeak NG writes (en) before an English word and (hi) after it
_HAPPY = re.compile(r"(?<=[^\W\d_])ɪ(?=\s|$)")  # eSpeak NG's RP ends "city" in ɪ, Kokoro's British in i
_SYLLABIC = re.compile(r"(\S)\u0329")

# Punctuation that Kokoro reads, but not inside a number, a time or a word.
_MARKS = re.compile(r"[;:,.!?…]+(?=\s|$|[\"”)])|[\"“”()—]")
# After these, a full stop is part of the word.
_SHORT = re.compile(r"(?i)(?:^|\s)(?:mr|mrs|ms|dr|prof|st|vs|no|jr|sr|[a-z]|(?:[a-z]\.)+[a-z])$")

Phonemizer = Callable[[str, str], str]  # text, eSpeak NG's language → its tied IPA


def phonemes(text: str, language: str, phonemizer: Phonemizer) -> str:
    """Phonemes of `text`, with punctuation, for a voice of `language` (a value of LANGUAGES)."""
    if language in (AMERICAN, BRITISH):
        text = respelled(text)
    said: list[str] = []
    place = 0
    for mark in _MARKS.finditer(text):
        if mark[0] == "." and _SHORT.search(text[: mark.start()]) and text[mark.end() :].strip():
            continue
        said += [_words(text[place : mark.start()], language, phonemizer), mark[0]]
        place = mark.end()
    said.append(_words(text[place:], language, phonemizer))
    return " ".join("".join(said).split())


def _words(text: str, language: str, phonemizer: Phonemizer) -> str:
    """Phonemes of a text without punctuation; keeps the spaces around it."""
    if not any(character.isalnum() for character in text):
        return " " if text else ""
    before, after = " " * text[0].isspace(), " " * text[-1].isspace()
    return before + in_kokoros_alphabet(phonemizer(text.strip(), language), language) + after


def in_kokoros_alphabet(ipa: str, language: str) -> str:
    """Convert eSpeak NG's tied IPA of one clause to Kokoro's alphabet."""
    text = _replace(_FOREIGN_WORD.sub("", ipa), _AFFRICATES)
    if language in (AMERICAN, BRITISH):
        text = _replace(text, _AMERICAN if language == AMERICAN else _BRITISH, _DIPHTHONGS, first=True)
        text = _SYLLABIC.sub(r"ᵊ\1", _replace(text, _ENGLISH))
        if language == BRITISH:
            text = _HAPPY.sub("i", text)
    elif language != "es":
        text = _replace(text, _DIPHTHONGS)
    return _replace(text, _ANYWHERE).strip()


def _replace(text: str, *tables: dict[str, str], first: bool = False) -> str:
    """Replace all keys of the tables, longest first. first: apply the tables in reverse order."""
    ordered = tables[::-1] if first else tables
    for table in ordered:
        for old in sorted(table, key=len, reverse=True):
            text = text.replace(old, table[old])
    return text
