"""Removes what is not spoken: Markdown, HTML, LaTeX commands, addresses and emoji."""

from __future__ import annotations

import html
import re
import unicodedata

from af3.speech.spoken import latex
from af3.speech.spoken.rules import Say


def _placed(letter: str, text: str) -> str:
    """What HTML raises (p) or lowers (b): x<sup>2</sup> → x², 1<sup>st</sup> → 1st."""
    if letter == "p":
        return latex.as_power(text)
    return latex.as_index(text) if text.isdecimal() else f"_{text}"


# Repetitions are bounded, so that the work stays linear in the text.
_RULES: tuple[tuple[str, Say], ...] = (
    (r"<su(b|p)>\s*([\w+−-]{1,12})\s*</su(?:b|p)>", lambda m: _placed(m[1], m[2])),
    (r"\blog_\{?(\d{1,2})\}?", lambda m: f"log{latex.as_index(m[1])}"),
    (r"(?<!\S):[a-z][a-z_]{2,40}:(?!\S)", " "),  # the name of an emoji
    (r"(?<=\S) +[•‣·] +(?=\S)", ", "),  # items in a line
    (r"<!--.{0,400}?-->|</?[a-zA-Z](?![\w+.-]{0,80}[:@])[^<>\n]{0,200}>", " "),  # HTML
    (
        r"!?\[((?:[^\[\]\n]|\[[^\[\]\n]{0,80}\]){0,200})\]\((?:[^()\n]|\([^()\n]{0,80}\)){0,300}\)",
        r"\1",
    ),  # a link: its text
    (r"\]\((?:[^()\s]|\([^()\s]{0,80}\)){0,300}\)", " "),  # the end of a link whose text was cut before
    (r"\[([^\[\]\n]{1,200})\]\[[^\[\]\n]{0,40}\]", r"\1"),
    (r"\[\^\w{1,8}\]", ""),  # a footnote's number
    (r"<(?:mailto:)?([\w.+-]{1,80}@[\w.-]{1,80})>", r"\1"),
    (r"\bmailto:", ""),
    (
        r"<?\bhttps?://(?:www\.)?([^\s/?#<>()]{1,200})(?:[/?#][^\s<>]{0,400}?)?>?(?=[.,;:!?)\]]*(?:\s|$|[<\"']))",
        r"\1",
    ),  # an address: its host
    (r"\bwww\.(?=\w)", ""),
    (r"\b(localhost|[\w-]+\.[a-z]{2,6}):(\d{2,5})\b", r"\1 port \2"),
    (
        r"(?m)^[ \t]*(?:>[ \t]*(?![$€£]?\d))*(?:#{1,6}|[-*+•‣·]|>(?!\s+[$€£]?\d))(?=\s)(?:[ \t]+\[[ xX]\])?",
        " ",
    ),  # headings, bullets, quotes
    (r"(?m)^[ \t]*[|:-][|: \t-]*$", " "),  # a rule, also that under the heading of a table
    (r"[-=_*~]{3,}", " "),  # rules
    (r"(?<=\d)\*\*(?=\d)", "^"),
    (r"(?<=\d)\*(?=\d)|(?<=[\w)] )\*(?= [\w(])", "×"),
    (r"(?<![\w*])([^\W\d_])\*(?=[^\W\d_](?![\w*]))", r"\1×"),  # a*b, but not a*b*
    (r"(?<=\w)\^([\w+-]{1,4})\^", r"^\1 "),  # Pandoc's power
    (r"[*`]|~~", ""),  # emphasis, code
    (r"(?<!\w)_+|_+(?!\w)", ""),
    (r"(?<![^\W_])([^\W\d_])_(?=[^\W_]{1,3}(?![^\W_]))(?!\w*_\w*_)", r"\1₋"),  # x_1 is an index ...
    (r"_", " "),  # ... and names_like_this are words
    ("₋", "_"),
    (r"(?<=\b[PpE]\()([^()|\n]{1,20}?) ?\| ?([^()|\n]{1,20})(?=\))", r"\1 given \2"),  # a probability
    (r"(?<![\w|])\|\|([^\s|][^|\n]{0,18}?)\|\|(?![A-Za-z|])", r"‖\1‖"),
    (r"(?<![\w|])\|([A-Za-z][\w()₀-₉ +−-]{0,16})\|(?=[²³]|\^| ?[=<>≤≥≈])", r"the absolute value of (\1)"),
    (r"(?<![\w|])\|([a-zα-ωXYZH](?:[\w()₀-₉ +−-]{0,12}[\w)])?)\|(?![\w|])", r"the absolute value of \1"),
    (r"[ \t]*\|[ \t]*", ", "),  # cells of a table
    (
        r"(?<=\w)([^\w\s.,;:!?…]{0,20})[ \t]*\n",
        r"\1,\n",
    ),  # a line that ends without a mark is followed by a pause
    (r",\s*(?:,\s*)+", ", "),
)
_COMPILED = tuple((re.compile(pattern, re.DOTALL), replacement) for pattern, replacement in _RULES)
_EMOJI_STYLE = re.compile("[^\\x00-\\x7f]\ufe0f")  # a character shown as an emoji
_KEPT_SYMBOLS = frozenset("°♭♮⇌⇄☉𝄪𝄫♩♪\U0001d157\U0001d15d\U0001d161^№")
# Symbols, modifiers, invisible and private-use characters, of which emoji consist.
_DROPPED_CATEGORIES = frozenset({"So", "Sk", "Cc", "Cf", "Cs", "Co", "Cn", "Me"})
_VARIATION = "\ufe0e\ufe0f"
# Ligatures, full-width and mathematical letters, "㎐", "℃", "Ⅳ": replaced by plain characters. Not "№", which would
# become "No", and not "℠" and "™".
_COMPATIBLE = re.compile("[ℂ-ℕ℗-℟℡℣-⅏Ⅰ-ⅿ㌀-㏿ﬀ-ﬆ！-～\U0001d400-\U0001d7ff\u00a0\u2000-\u200a\u202f]+")
_THIN_SPACE = re.compile("(?<=\\d)[\u2009\u202f\u00a0](?=\\d{3}(?!\\d))")
# Unicode composes a note of a head, a stem, a flag and a dot; a whole note is a head alone.
SIXTEENTH = "\U0001d161"
_NOTE_SIGNS = (
    ("△", "Δ"),
    ("\U0001d158\U0001d165\U0001d16e", "♪"),
    ("\U0001d158\U0001d165\U0001d16f", SIXTEENTH),
    ("\U0001d158\U0001d165", "♩"),
    ("\U0001d165", ""),
    ("\U0001d16d", "."),
)
# A note value says something beside a relation: ♩ = 120, ♩ ≈ 90, ♩ = ♪; elsewhere it is an ornament.
_NOTE_VALUE = re.compile("(?<![=≈])(?<![=≈] )[♩♪\U0001d157\U0001d15d\U0001d161](?!\\s*\\.?\\s*[=≈])")
_PANDOC_INDEX = re.compile(r"(?<=[A-Za-z)])~(\d{1,3})~")
# Hyphens and dashes of other widths: models write U+2011, the hyphen at which no line breaks.
_DASHES = str.maketrans({"‐": "-", "‑": "-", "﹣": "-", "‒": "–", "―": "—"})
_TRIANGLE = re.compile(r"△(?=[A-Z]{3}\b)")
_CIRCLED = re.compile("[①-⓿❶-➓]")
_OTHER_DIGITS = re.compile(r"[^\W\D0-9]")  # of Arabic, Devanagari and other scripts
_WIDE_MARKS = re.compile("[，：；](?=\\S)")
_APOSTROPHE = re.compile(r"(?<=\w)[`´’ʼ](?=\w)")


def plain(text: str) -> str:
    """Return the words, punctuation and signs of `text`; empty when it has nothing to speak."""
    text = _APOSTROPHE.sub("'", _EMOJI_STYLE.sub("", unicodedata.normalize("NFC", text))).translate(_DASHES)
    text = _WIDE_MARKS.sub(lambda mark: f"{mark[0]} ", _CIRCLED.sub(_circled, text))
    text = _OTHER_DIGITS.sub(lambda digit: str(unicodedata.digit(digit[0], "")), text)
    text = _TRIANGLE.sub("triangle ", text)
    for sign, plainer in _NOTE_SIGNS:
        text = text.replace(sign, plainer)
    text = _THIN_SPACE.sub(",", text)
    text = "".join(character for character in text if unicodedata.category(character) != "Co")
    text = _PANDOC_INDEX.sub(lambda found: latex.as_index(found[1]), text)
    formulas: list[str] = []
    text = latex.replace_spans(text, formulas)
    for pattern, replacement in _COMPILED:
        text = pattern.sub(replacement, text)
    text = html.unescape(text)
    for number, formula in enumerate(formulas):
        text = text.replace(chr(0xE000 + number), formula)
    text = _COMPATIBLE.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    text = _NOTE_VALUE.sub("", text)
    text = " ".join("".join(map(_kept, text)).split()).lstrip(" ,;:|)").rstrip(" |")
    return text if any(map(_is_word, text)) else ""


def _circled(character: re.Match[str]) -> str:
    """The number or letter in a circle, as the marks of a list are written: ① → 1."""
    number = unicodedata.numeric(character[0], None)
    return f"{number:g} " if number is not None else unicodedata.normalize("NFKC", character[0]) + " "


def _is_word(character: str) -> bool:
    return character.isalnum() or character in "∞♩♪\U0001d157\U0001d15d\U0001d161"


def _kept(character: str) -> str:
    if character.isspace():
        return " "
    if character in _KEPT_SYMBOLS or unicodedata.category(character) not in _DROPPED_CATEGORIES:
        return "" if character in _VARIATION else character
    return ""
