"""Expands abbreviations that a voice would spell out, or at whose full stop it would pause."""

from __future__ import annotations

from af3.speech.spoken.rules import apply, rules

_NUMBERED = {
    "No": "number", "Nos": "numbers", "Op": "opus", "Fig": "figure", "Figs": "figures", "Eq": "equation",
    "Vol": "volume", "Ch": "chapter", "Sec": "section", "pp": "pages", "p": "page", "mm": "measures", "m": "measure",
}  # fmt: skip
_RULES = rules(
    (r"\+/[-−]", "±"),
    (r"\b[eE]\.\s?g\.,?", "for example"),
    (r"\b[iI]\.\s?e\.,?", "that is"),
    (r"\betc\.(?=\s+[A-Z]|\s*$)", "et cetera."),
    (r"\betc\b\.?", "et cetera"),
    (r"\b[vV]s?\.(?=\s+\w)|\bvs\b", "versus"),
    (r"\b[aA]pprox\.", "approximately"),
    (r"\ba\.k\.a\.|\baka\b", "also known as"),
    (r"\bDr\. (?=[A-Z])", "Doctor "),
    (r"\bMr\. (?=[A-Z])", "Mister "),
    (r"\bMrs\. (?=[A-Z])", "Missus "),
    (r"\bProf\. (?=[A-Z])", "Professor "),
    (r"\b(?:[fF]t|[fF]eat)\. (?=[A-Z])", "featuring "),
    (r"\bw/o\b", "without"),
    (r"\bw/(?=\s)", "with"),
    (r"\band/or\b", "and or"),
    (
        r"\b(" + "|".join(_NUMBERED) + r")\. ?(?=\d)",
        lambda short: _NUMBERED[short[1]] + " ",
    ),
    (r"\bno\. ?(?=\d)", "number "),
    (r"\bvol\. ?(?=\d)", "volume "),
    (r"\b(?:[cC]a|c)\. ?(?=1\d{3}|20\d\d)", "circa "),
    (r"\bb\. ?(?=1[5-9]\d\d|20\d\d)", "born in "),
    (r"\bN/A\b", "not applicable"),
    (r"\bL/R\b", "left and right"),
    (r"\bAC/DC\b", "AC DC"),
    (r"\b1/f(?= (?:noise|spectrum|fluctuations?)\b)", "1 over f"),
    (
        r"(?<=\d)[\"″](?= (?:vinyl|single|record|LP|EP|disc|speaker|woofer|screen|cymbal|tom|snare|reel)s?\b)",
        " inch",
    ),
    (r"\bop\. ?(?=\d)", "opus "),
    (r"(?<!\w)№ ?(?=\d)", "number "),
)


def say(text: str) -> str:
    return apply(_RULES, text)
