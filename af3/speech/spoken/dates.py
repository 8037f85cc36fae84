"""Years, decades and dates."""

from __future__ import annotations

import re

from num2words import num2words

from af3.speech.spoken.rules import apply, rules

MONTHS = ("January February March April May June July August September October November December").split()
_MONTH = "|".join(MONTHS)
_SHORT = {month[:3]: month for month in MONTHS} | {"Sept": "September"}
_DAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Fri": "Friday", "Sat": "Saturday",
    "Sun": "Sunday",
}  # fmt: skip
_YEAR = r"(?:1[1-9]|20)\d\d"
# A four-digit number after one of these words is a year; so is one in brackets or before an era.
_BEFORE_YEAR = (
    r"[Ii]n|[Ss]ince|[Uu]ntil|[Tt]ill|[Bb]y|[Ff]rom|[Oo]f|[Dd]uring|[Bb]efore|[Aa]fter|[Aa]round|[Cc]irca|[Cc]a\.|"
    r"[Yy]ear|early|late|mid|spring|summer|autumn|fall|winter|copyright|and|to|or|" + _MONTH
)

_AFTER_YEAR = (
    r" (?:was|is|saw|marked|song|hit|album|film|movie|edition|version|recording|performance|release|debut)\b"
)


def year(number: int) -> str:
    """1990 → nineteen ninety, 2005 → two thousand five."""
    return re.sub(r"\band |,", "", num2words(number, to="year")).replace("-", " ")


def ordinal(number: int) -> str:
    """21 → twenty first, 1000 → one thousandth."""
    return re.sub(r"\band |,", "", num2words(number, to="ordinal")).replace("-", " ")


def decade(number: int) -> str:
    """1990 → nineteen nineties, 90 → nineties."""
    words = year(number) if number >= 1000 else num2words(number)
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


def _day(month: str, day: str, of_year: str | None) -> str:
    return f"{month} {ordinal(int(day))}" + (f" {year(int(of_year))}" if of_year else "")


def _iso(date: re.Match[str]) -> str:
    month, day = int(date["month"]), int(date["day"])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return date[0]
    said = _day(MONTHS[month - 1], date["day"], date["year"])
    return f"{said} at {date['time']}" if date["time"] else said


def _slashed(date: re.Match[str]) -> str:
    """Read a slashed date: 05/13/2024 and 13/05/2024 are unambiguous; of 05/01/2024 the numbers are read."""
    first, second = int(date[1]), int(date[2])
    if first <= 12 < second <= 31:
        return _day(MONTHS[first - 1], date[2], date[3])
    if second <= 12 < first <= 31:
        return _day(MONTHS[second - 1], date[1], date[3])
    return f"{first} {second} {year(int(date[3]))}"


def _span(years: re.Match[str]) -> str:
    first, last = years[1], years[2]
    if len(last) == 2:
        if int(last) <= int(first[2:]):
            return years[0]
        return f"{year(int(first))} to {num2words(int(last)).replace('-', ' ')}"
    return f"{year(int(first))} to {year(int(last))}"


def _lone_year(found: re.Match[str]) -> str:
    number = int(found[0])
    return found[0] if 2000 <= number < 2010 else year(number)


def _dotted(date: re.Match[str]) -> str:
    """31.12.2024: with dots, the day is first."""
    day, month = int(date[1]), int(date[2])
    return _day(MONTHS[month - 1], date[1], date[3]) if 1 <= month <= 12 and 1 <= day <= 31 else date[0]


def _month(date: re.Match[str]) -> str:
    """2024-05 → May 2024, but not the season 2004-05."""
    if int(date[2]) == int(date[1][2:]) + 1:
        return date[0]
    return f"{MONTHS[int(date[2]) - 1]} {year(int(date[1]))}"


_RULES = rules(
    (
        rf"(?<![\w/.,])(?<!\bam )(?<!\bvom )(?<!\bden )(\d{{1,2}})\.\s?(\d{{1,2}})\.\s?({_YEAR})(?![\w/]|\.\d)",
        _dotted,
    ),
    (r"(?<![\w/.,-])((?:19|20)\d\d)-(0[1-9]|1[0-2])(?![\w/-]|[.,]\d)", _month),
    (rf"\b((?:[Pp]ost|[Pp]re|[Ee]arly|[Ll]ate|[Mm]id)-)({_YEAR})(?!\w)", lambda m: m[1] + year(int(m[2]))),
    (r"(?<=\b(?:BC|AD|CE))\s?[–—-]\s?(?=\d)|(?<=\bBCE)\s?[–—-]\s?(?=\d)", " to "),
    (
        r"(?<![\w/-])(?P<year>\d{4})(?P<by>[-/])(?P<month>\d\d)(?P=by)(?P<day>\d\d)"
        r"(?:[T ](?P<time>\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00)?)?(?![\w/-])",
        _iso,
    ),
    (
        rf"\b({'|'.join(_SHORT)})\.?\s?[-–—]\s?({'|'.join(_SHORT)})\b(?!\.? \d{{1,2}}\b)\.?(?=(?: {_YEAR})|[^.]|$)",
        lambda m: f"{_SHORT[m[1]]} to {_SHORT[m[2]]}",
    ),
    (
        rf"\b({'|'.join(_DAYS)})\.?\s?[-–—]\s?({'|'.join(_DAYS)})\b",
        lambda m: f"{_DAYS[m[1]]} to {_DAYS[m[2]]}",
    ),
    (rf"(?<=\d )({'|'.join(_SHORT)})\.?(?= {_YEAR})", lambda m: _SHORT[m[1]]),
    (rf"(?<![\w/.])(\d{{1,2}})/(\d{{1,2}})/({_YEAR})(?![\w/])", _slashed),
    (r"\b(" + "|".join(_SHORT) + r")\.? (?=\d{1,2}(?:st|nd|rd|th)?\b)", lambda m: _SHORT[m[1]] + " "),
    (
        rf"\b({_MONTH}) (\d{{1,2}})(?:st|nd|rd|th)?(?:,? ({_YEAR}))?(?![\w:]|[.,]\d)",
        lambda m: _day(m[1], m[2], m[3]) if 1 <= int(m[2]) <= 31 else m[0],
    ),
    (
        rf"\b(\d{{1,2}})(?:st|nd|rd|th)? ({_MONTH})(?: ({_YEAR}))?(?!\w)",
        lambda m: f"{ordinal(int(m[1]))} of {m[2]}" + (f" {year(int(m[3]))}" if m[3] else ""),
    ),
    (r"(?<=\d0s)\s?[-–—]\s?(?=(?:\d\d|['’‘])\d0s)", " to "),
    (
        rf"(?<![\w.,/-])({_YEAR})\s?[-–—]\s?(?=(?:[Pp]resent|today|now)\b)",
        lambda m: f"{year(int(m[1]))} to ",
    ),
    (r"(?<=\d\d0s)\s?[-–—]\s?['’]?([2-9]0)s\b", lambda m: f" to {decade(int(m[1]))}"),
    (r"(?<![\w.,])['’‘]?((?:1\d|20)\d0)['’]?s\b", lambda m: decade(int(m[1]))),
    (r"(?<![\w.,])['’‘]00s\b", "two thousands"),
    (r"(?<![\w.,])['’‘]([1-9]0)s\b", lambda m: decade(int(m[1]))),
    (
        r"(?i)(?<=\b)(the|early|mid|late|their|his|her|my|your)([ -])([1-9]0)['’]?s\b",
        lambda m: f"{m[1]}{m[2]}{decade(int(m[3]))}",
    ),
    (r"\b([2-9]0)s(?=/['’]?[2-9]0s\b)|(?<=0s/)([2-9]0)s\b", lambda m: decade(int(m[1] or m[2]))),
    (r"(?<=ies/)([2-9]0)s\b", lambda m: decade(int(m[1]))),
    (
        r"\b([2-9]0)s(?=[ -](?:style|synth|pop|rock|music|disco|hits?|sound|vibe|era|ballads?|dance|funk|soul|hip)\b)",
        lambda m: decade(int(m[1])),
    ),
    (rf"(?<![\w.,/-])({_YEAR})[-–—]({_YEAR}|\d\d)(?![\w/]|[-.,]\d)", _span),
    (
        rf"\b(?:{_BEFORE_YEAR})(?: the)?,? ({_YEAR})(?![\w/%°]|[.,:]\d|[-–]\d)"
        r"(?! ?(?:[kMG]?Hz|ms|m|s|km|kg|g|dB|[a-z]+s)\b)",
        lambda m: m[0][: -len(m[1])] + year(int(m[1])),
    ),
    (rf"(?<=\()(?:{_YEAR})(?=[),;])", lambda m: year(int(m[0]))),
    (rf"\b({_YEAR})(?= (?:AD|BC|CE|BCE)\b)", lambda m: year(int(m[1]))),
    # A year also stands alone, or before a name or punctuation; before other words it may be a count.
    (
        rf"(?<![\w.,/$€£¥#:%+×*=<>≤≥±~≈√^-])(?<!\d )(?:1[1-9]\d\d|20[1-9]\d)"
        rf"(?=[.,;:!?)]?(?:\s+(?:[A-Z][a-z]{2}|\()|$)|[,;!?)]\s|[.]\s|{_AFTER_YEAR})",
        _lone_year,
    ),
)


def say(text: str) -> str:
    return apply(_RULES, text)
