"""The letter A where a voice would read the article: the note A, option A, from A to B, an AABA form.

A hyphen after it makes it a letter.
"""

from __future__ import annotations

from af3.speech.spoken.rules import apply, rules

_NAMED = (
    r"[Gg]roup|[Tt]ype|[Vv]itamin|[Ss]ide|[Ss]ection|[Pp]art|[Oo]ption|[Hh]epatitis|[Gg]rade|[Pp]lan|[Ss]peaker|"
    r"[Cc]lass|[Tt]eam|[Cc]hoice|[Nn]ote|[Cc]hord"
)
_FORMS = "AABA|ABAB|AABB|ABAC|ABACA|ABACABA|ABCB|ABCA|ABCBA|ABCABC|AAB|ABC|ABA|AAA"


def _spelled(letters: str) -> str:
    return " ".join("A-" if letter == "A" else letter for letter in letters)


_RULES = rules(
    # Inside a sentence, before a word in small letters: titles are capitalised ("the song A Day in the Life").
    (
        r"(?<=[a-z\d] )(?<!called )(?<!titled )(?<!named )A(?= [a-z])(?! (?:cappella|capella|priori|posteriori|la)\b)",
        "A-",
    ),
    (rf"\b((?:{_NAMED}) )A(?=\s)", r"\1A-"),
    (r"(?<=\b[A-G], )A(?= (?:and|or)\b)|(?<![\w'’-])A(?= and [B-G]\b)", "A-"),
    (r"(?<![\w-])A(?= ?[=+])|(?<!\w)A(?=\) )|(?<=\()(?<!dB\()A(?=\))", "A-"),
    (
        rf"\b(?:(?:{_FORMS})(?= (?:form|structure|pattern|rhyme|scheme|song)\b)|A(?:ABA|BAB|ABB|BACA|BACABA|BCBA)"
        r"|[A-G]{4,7}(?= tuning\b)|EADGBE|EADG|GCEA|DADGAD)\b",
        lambda m: _spelled(m[0]),
    ),
)


def say(text: str) -> str:
    return apply(_RULES, text)
