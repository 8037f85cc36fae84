"""Written text → the words to read aloud: Markdown, HTML tags, links, emoji and rules are not spoken."""

from __future__ import annotations

import re
import unicodedata

_RULES: tuple[tuple[str, str], ...] = (
    (r"<!--.*?-->|</?[a-zA-Z][^<>\n]*>", " "),  # HTML
    (r"!?\[([^\]\n]*)\]\([^()\n]*\)", r"\1"),  # a link or picture: its text
    (r"\]\([^()\s]*\)", " "),  # the end of a link whose text was cut before
    (r"https?://(?:www\.)?([^\s/?#]+)[^\s]*?(?=[.,;:!?)]*(?:\s|$))", r"\1"),  # an address: its host
    (r"(?m)^\s*(?:#{1,6}|[-*+•‣·>])(?=\s)", " "),  # headings, bullets, quotes
    (r"(?m)^[ \t]*[|:-][|: \t-]*$", " "),  # a rule, also that under the heading of a table
    (r"[-=_*~]{3,}", " "),  # rules
    (r"(?<=\d)\s*[*×]\s*(?=\d)", " times "),
    (r"[*`]|~~", ""),  # emphasis, code
    (r"(?<!\w)_+|_+(?!\w)", ""),
    (r"_", " "),  # names_like_this
    (r"[ \t]*\|[ \t]*", ", "),  # cells of a table
    (r"(?<=\w)([^\w\s.,;:!?…]*)[ \t]*\n", r"\1,\n"),  # a line that ends without a mark is followed by a pause
    (r",\s*(?:,\s*)+", ", "),
)
_COMPILED = tuple((re.compile(pattern), replacement) for pattern, replacement in _RULES)
_KEPT_SYMBOLS = "°"
# Symbols, modifiers, invisible and private characters: emoji are made of these.
_DROPPED_CATEGORIES = frozenset({"So", "Sk", "Cc", "Cf", "Cs", "Co", "Cn", "Me"})


def spoken(text: str) -> str:
    """The words and punctuation of `text` that are read aloud; empty where it has no letter and no digit."""
    for pattern, replacement in _COMPILED:
        text = pattern.sub(replacement, text)
    text = " ".join("".join(map(_said, text)).split()).lstrip(" ,;:|)").rstrip(" |")
    return text if any(character.isalnum() for character in text) else ""


def _said(character: str) -> str:
    if character.isspace():
        return " "
    if character in _KEPT_SYMBOLS or unicodedata.category(character) not in _DROPPED_CATEGORIES:
        return character
    return ""
