"""Numbers in English words, for voices that were trained on letters alone."""

from __future__ import annotations

import re

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_LARGEST = 10**12
_NUMBER = re.compile(
    r"(?P<sign>(?<!\w)-)?(?P<whole>\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<fraction>\d+))?(?P<unit>%)?"
)


def in_words(text: str) -> str:
    """`text` with every number spelled out: "3.5%" → "three point five percent"."""
    return _NUMBER.sub(_spell, text)


def _spell(number: re.Match[str]) -> str:
    whole = number["whole"].replace(",", "")
    said = [_cardinal(int(whole)) if int(whole) < _LARGEST and whole[0] != "0" else _digits(whole)]
    if number["sign"]:
        said.insert(0, "minus")
    if number["fraction"]:
        said += ["point", _digits(number["fraction"])]
    if number["unit"]:
        said.append("percent")
    return " ".join(said)


def _digits(number: str) -> str:
    return " ".join(_SMALL[int(digit)] for digit in number)


def _cardinal(number: int) -> str:
    if number < 20:
        return _SMALL[number]
    if number < 100:
        tens = _TENS[number // 10]
        return f"{tens} {_SMALL[number % 10]}" if number % 10 else tens
    scale, name = next(entry for entry in _SCALES if number >= entry[0])
    head = f"{_cardinal(number // scale)} {name}"
    return f"{head} {_cardinal(number % scale)}" if number % scale else head
