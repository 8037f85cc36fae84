"""Spells out short names of intervals: M3, m3, P5, TT."""

from __future__ import annotations

import re

from af3.speech.spoken.dates import ordinal
from af3.speech.spoken.rules import apply, rules

_QUALITIES = {"M": "major", "m": "minor", "P": "perfect", "d": "diminished", "A": "augmented"}
_SIZES = {"1": "unison", "8": "octave"}
# Those that are nothing else beside each other; A4 is also a note and m2 an old square metre.
_CERTAIN = r"(?<![\w.])(?:[Mm][2367]|P[1458])(?![\w.])"
_OF_INTERVALS = re.compile(
    rf"\bintervals?\b|{_CERTAIN}[^.!?]{{1,12}}{_CERTAIN}|{_CERTAIN} (?:above|below|up|down)\b"
)


def _interval(found: re.Match[str]) -> str:
    """M3 → major third, where the text is about intervals."""
    if not _OF_INTERVALS.search(found.string):
        return found[0]
    if found["size"] is None:
        return "tritone"
    return f"{_QUALITIES[found['quality']]} {_SIZES.get(found['size']) or ordinal(int(found['size']))}"


_RULES = rules(
    (r"(?<![\w.♭♯#])(?:(?P<quality>[MmPdA])(?P<size>1[0-5]|[1-9])|TT)(?![\w.]\w|\w|[♭♯#])", _interval),
)


def say(text: str) -> str:
    return apply(_RULES, text)
