"""Expands abbreviations that a voice would spell out, or at whose full stop it would pause."""

from __future__ import annotations

import re

from af3.speech.spoken.rules import apply, rules

_NUMBERED = {
    "No": "number", "Nos": "numbers", "Op": "opus", "Fig": "figure", "Figs": "figures", "Eq": "equation",
    "Vol": "volume", "Ch": "chapter", "Sec": "section", "pp": "pages", "p": "page", "mm": "measures", "m": "measure",
}  # fmt: skip


def _minus(dash: re.Match[str]) -> str:
    """An en dash before a number is a minus where no number stands before it: "at –6 dB", but not "20 Hz –30 Hz"."""
    return dash[0] if re.search(r"\d\s?\S{0,4}\s?$", dash.string[: dash.start()][-12:]) else "−"


_RULES = rules(
    (r"\+/[-−]", "±"),
    (r"(?<![\w.,)%°])–(?=\.?\d)", _minus),
    (r"\b[eE]\.\s?g\.,?", "for example"),
    (r"\b[iI]\.\s?e\.,?", "that is"),
    (r"\betc\.(?=\s+[A-Z]|\s*$)", "et cetera."),
    (r"\betc\b\.?", "et cetera"),
    (r"\b[vV]s?\.(?=\s+\w)|\bvs\b", "versus"),
    (r"\b[aA]pprox\b\.?", "approximately"),
    (r"\ba\.k\.a\.|\baka\b", "also known as"),
    (r"\bDr\. (?=[A-Z])", "Doctor "),
    (r"\bMr\. (?=[A-Z])", "Mister "),
    (r"\bMrs\. (?=[A-Z])", "Missus "),
    (r"\bSgt\. (?=[A-Z])", "Sergeant "),
    (r"(?<=[a-z],) Jr\.?(?=[\s,;)]|$)|(?<=[a-z]) Jr\.?(?=[\s,;)]|$)", " Junior"),
    (r"(?<=[a-z],) Sr\.?(?=[\s,;)]|$)|(?<=[a-z]) Sr\.?(?=[\s,;)]|$)", " Senior"),
    (r"\b[pP]rod\. (?=by\b)", "produced "),
    (r"\b[aA]rr\. (?=by\b)", "arranged "),
    (r"\b[aA]rr\. (?=[A-Z])", "arranged by "),
    (r"(?<=\w)\s?['’‘]n['’]\s?(?=\w)", " and "),  # rock 'n' roll
    (r"\bOpp\. ?(?=\d)", "opuses "),
    (r"\bProf\. (?=[A-Z])", "Professor "),
    (r"\bFt\. (?=Worth\b|Lauderdale\b|Knox\b|Myers\b)", "Fort "),
    (r"\b(?:[fF]t|[fF]eat)\. (?=[A-Z])", "featuring "),
    (r"\bw/o\b", "without"),
    (r"\bw/(?=\s)", "with"),
    (r"\band/or\b", "and or"),
    (r"\b[oO]p\. ?(\d+)/(\d+)\b", r"opus \1 number \2"),
    (r"\bfig\. ?(?=\d)", "figure "),
    (r"\b[eE]q\. ?(?=\(?\d)", "equation "),
    (r"\b(MIDI|[Aa]udio|[Ss]tereo|[Oo]utput|[Ii]nput) [cC]h\. ?(?=\d)", r"\1 channel "),
    (r"\bch\. ?(?=\d)", "chapter "),
    (r"\bposth\.", "posthumous"),
    (r"\bSym(?:ph)?\. (?=No\b|number\b)", "Symphony "),
    (r"(?<=\d(?:st|nd|rd|th))[ -]c\.(?=[\s,;)]|$)", " century"),
    (
        r"\b(" + "|".join(_NUMBERED) + r")\. ?(?=\d)",
        lambda short: _NUMBERED[short[1]] + " ",
    ),
    (r"\bno\. ?(?=\d)", "number "),
    (r"\bnos\. ?(?=\d)", "numbers "),
    (r"\bvol\. ?(?=\d)", "volume "),
    (r"\b[cC]a\. ?(?=\d)|\bc\. ?(?=1\d{3}|20\d\d)|(?<=[=≈~] )c\. ?(?=\d)", "circa "),
    (r"\bc\. ?(?=\d+ ?(?:BPM|bpm|[kM]?Hz|dB|ms|s)\b)", "circa "),
    (r"\b[cC]f\.", "compare"),
    (r"\bSt\. (?=[A-Z])", "Saint "),
    (r"(?<=[a-z] )St\.(?=[\s,;)]|$)", "Street"),
    (r"(?<=[a-z] )Ave\.|(?<=\d(?:st|nd|rd|th) )Ave\.", "Avenue"),
    (r"\bWWII\b", "World War 2"),
    (r"\bWWI\b", "World War 1"),
    (r"\b[mM]vts\.", "movements"),
    (r"\b[mM]vt\.", "movement"),
    (r"\b[vV]er\. ?(?=\d)", "version "),
    (r"(?<=\d )sq\.? (m|ft|km|mi|cm|mm|yd)\b", r"\1²"),
    (r"\bb\. ?(?=1[5-9]\d\d|20\d\d)", "born in "),
    (r"\bd\. ?(?=1[0-9]\d\d|20\d\d)", "died in "),
    (r"\bN/A\b", "not applicable"),
    (r"\bL/R\b", "left and right"),
    (r"\bAC/DC\b", "AC DC"),
    (r"\b1/f(?= (?:noise|spectrum|fluctuations?)\b)", "1 over f"),
    (
        r"(?<=\d)[\"″](?= (?:\d{1,2}-track|TRS|TS|jack|plug|socket|cable|connector|tape|vinyl|single|record|LP|EP|disc"
        r"|speaker|woofer|screen|cymbal|tom|snare|reel)s?\b)",
        " inch",
    ),
    (r"\bop\. ?(?=\d)", "opus "),
    (r"(?<!\w)№ ?(?=\d)|\bN[º°]\.? ?(?=\d)", "number "),
    (r"\bNo\. (?=[IVX]+\b)", "number "),
)


def say(text: str) -> str:
    return apply(_RULES, text)
