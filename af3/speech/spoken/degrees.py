"""Spells out degrees of the scale and chords upon them in Roman numerals, with figures: V7, ii⁶, I⁶₄, F major (III)."""

from __future__ import annotations

import re

from af3.speech.spoken.numbers import roman_value
from af3.speech.spoken.rules import apply, rules

NUMERAL = r"(?:VII|VI|IV|V|III|II|I|vii|vi|iv|v|iii|ii|i)"
_PLAIN = str.maketrans("²³⁴⁵⁶⁷⁹₂₃₄₅", "23456792345")
_QUALITIES = {"°": " diminished", "o": " diminished", "ø": " half diminished", "": ""}
_BESIDE = re.compile(
    r"\b(?:chords?|dominant|tonic|cadence|progression|resol\w+|major|minor|key)\b|\b[A-G][♭♯#b]?m?7\b",
    re.IGNORECASE,
)


def _degree(found: re.Match[str]) -> str:
    figures = " ".join((found["figures"] or "").translate(_PLAIN).replace("/", ""))
    return f"{roman_value(found['roman'].upper())}{_QUALITIES[found['quality'] or '']} {figures}".strip()


def _dominant(found: re.Match[str]) -> str:
    return f"5 {found[1]}" if _BESIDE.search(found.string) else found[0]


_RULES = rules(
    (
        rf"(?<![\w♭♯])(?P<roman>{NUMERAL})(?P<quality>[°ø]?)(?P<figures>[⁴⁵⁶⁷⁹]{{1,2}}[₂₃₄₅]?|[⁶⁴][₅₄₃₂])(?![\w⁺⁻])",
        _degree,
    ),
    (rf"(?<![\w♭♯])(?P<roman>{NUMERAL})(?P<quality>)(?P<figures>6/4|6/5|4/3|4/2)(?![\w/])", _degree),
    (
        rf"(?:(?<=major \()|(?<=minor \()|(?<=\b[A-G] \()|(?<=[A-G][mb7] \()|(?<=[♭♯#] \())"
        rf"(?P<roman>{NUMERAL})(?P<quality>[°ø]?)(?P<figures>[679]?)(?=\))",
        _degree,
    ),
    (r"(?<![\w♭♯/–—-])V(7|9|13)(?![\w♭♯/.–—-]|\.\d)", _dominant),
    (r"^(?P<roman>II|III|IV|VI|VII)(?P<quality>)(?P<figures>)(?=\.(?: [A-Z]|$))", _degree),
)


def say(text: str) -> str:
    return apply(_RULES, text)
