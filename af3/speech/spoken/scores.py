"""Spells out terms of musical scores: dynamics, Italian abbreviations and octave signs."""

from __future__ import annotations

import re

from af3.speech.spoken.numbers import roman_value
from af3.speech.spoken.rules import apply, rules

_DYNAMICS = {
    "pppp": "pianissississimo", "ppp": "pianississimo", "pp": "pianissimo", "mp": "mezzo piano", "mf": "mezzo forte",
    "ff": "fortissimo", "fff": "fortississimo", "ffff": "fortissississimo", "sfz": "sforzando", "sffz": "sforzando",
    "sfp": "sforzando piano", "sfzp": "sforzando piano", "rfz": "rinforzando",
}  # fmt: skip
_PLAYERS = {
    "Vln": "violin", "Vla": "viola", "Vc": "cello", "Hn": "horn", "Tpt": "trumpet", "Tbn": "trombone",
    "Bsn": "bassoon", "Timp": "timpani",
}  # fmt: skip
# p and f alone may be variables or pages: they are dynamics only beside another one or where only one is possible.
_ALL = _DYNAMICS | {"p": "piano", "f": "forte", "fp": "fortepiano"}
_CERTAIN = "|".join(sorted(_DYNAMICS, key=len, reverse=True))
_ANY = f"{_CERTAIN}|fp|p|f"
_BEFORE = r"(?<![\w./'’-])(?<!\d )"  # not 12 mp (megapixels), 5 pp
_AFTER = r"(?![\w/'’]|\.?\s?\d|-[a-z])"  # not pp. 5


def _dynamic(found: re.Match[str]) -> str:
    return _ALL[found[0]]


def _pair(found: re.Match[str]) -> str:
    between = "to" if found[2].strip() in ("-", "–", "—", "→", "to") else found[2].strip()
    return f"{_ALL[found[1]]} {between} {_ALL[found[3]]}"


_RULES = rules(
    (
        rf"{_BEFORE}({_CERTAIN})(\s*[-–—→]\s*| to | and | or )({_ANY}){_AFTER}"
        rf"|{_BEFORE}(?P<first>p|f)(?P<by>\s*[–—→]\s*| to )(?P<last>{_CERTAIN}){_AFTER}",
        lambda m: _pair(m) if m[1] else f"{_ALL[m['first']]} to {_ALL[m['last']]}",
    ),
    (
        rf"(?<=\bfrom )p to f{_AFTER}|(?<=\bfrom )f to p{_AFTER}",
        lambda m: f"{_ALL[m[0][0]]} to {_ALL[m[0][-1]]}",
    ),
    (rf"(?<=\bmarked )(?:{_ANY}){_AFTER}|(?<=\bdynamic of )(?:{_ANY}){_AFTER}", _dynamic),
    (rf"{_BEFORE}(?:{_CERTAIN}){_AFTER}", _dynamic),
    (r"(?<=\b[cC]resc\. )(and|or|to) dim\.", r"\1 diminuendo"),
    (r"\bdim\. (?=e |al |poco |molto )", "diminuendo "),
    (r"\b([dD]e)?cresc\b\.?", lambda m: f"{m[1] or ''}crescendo" if m[0][0].islower() else m[0]),
    (r"\b[rR]it\.(?=\s|[,;)]|$)", "ritardando"),
    (r"\b[rR]all\.(?=\s|[,;)]|$)", "rallentando"),
    (r"\b[aA]ccel\.(?=\s|[,;)]|$)(?! of\b)", "accelerando"),
    (r"\b[pP]izz\.(?=\s|[,;)]|$)", "pizzicato"),
    (r"\b[sS]tacc\.(?=\s|[,;)]|$)", "staccato"),
    (r"\b[tT]rem\.(?=\s|[,;)]|$)", "tremolo"),
    (r"\b[eE]spr\.(?=\s|[,;)]|$)", "espressivo"),
    (r"\b8ve(s?)\b", r"octave\1"),
    (
        rf"\b({'|'.join(_PLAYERS)})\.(?: ?(I{{1,3}}|IV)\b)?",
        lambda m: _PLAYERS[m[1]] + (f" {roman_value(m[2])}" if m[2] else ""),
    ),
    (
        r"\bHob\. ?([IVX]{1,5})[a-z]?[:/] ?(\d{1,3})\b",
        lambda m: f"Hoboken {roman_value(m[1])} {m[2]}",
    ),
    (r"\bD\.\s?C\.(?= al\b)", "da capo"),
    (r"\bD\.\s?S\.(?= al\b)", "dal segno"),
    (r"\b8v[ae]\b(?! bassa)", "ottava"),
    (r"\b8vb\b|\b8va bassa\b", "ottava bassa"),
    (r"\b15m[ab]\b", "quindicesima"),
    (r"\bK\. ?(?=\d)|\bKV ?(?=\d)", "K "),
    (
        r"(?<![\w♭♯#–-])([A-G])([♭♯#b]?)([\d₀-₈])\s?[–—-]\s?([A-G])([♭♯#b]?)([\d₀-₈])(?![\w♭♯#]|\s?[–-])",
        lambda m: f"{m[1]}{m[2]}{m[3]} to {m[4]}{m[5]}{m[6]}",
    ),
    (r"\b([DS])\. ?(?=\d{2,3}\b)", r"\1 "),  # catalogues of Schubert's and Liszt's works
    (r"\bCC ?#(?=\d)", "CC number "),
    (r"¾(?= time\b)|(?<=\bin )¾(?=[.,]|$)", "3 4"),
)


def say(text: str) -> str:
    return apply(_RULES, text)
