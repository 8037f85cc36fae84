"""Digits with a colon between them: times of day, positions in a recording, durations, ratios, verses.

3:05 is read "three oh five" whatever it is. What the hour alone is, 3:00, depends on the words beside it: a position in
a recording is "three minutes", a time of day "three o'clock".
"""

from __future__ import annotations

import re

from af3.speech.spoken.rules import apply, rules

_AM_PM = r"(?:\s*[ap]\.?m\b\.?)"
_TIME = rf"\d{{1,3}}(?::[0-5]\d){{1,2}}(?:[.,]\d{{1,3}})?(?i:{_AM_PM})?"
_ALONE = r"(?<![\w:.,])"
_NO_MORE = r"(?!\w|:\d|[.,]\d)"
_RECORDED = re.compile(
    r"\b0{1,2}:[0-5]\d\b|\b(?:song|track|clip|audio|recording|video|film|movie|performance|piece|movement|chorus|verse|"
    r"refrain|bridge|intro|introduction|outro|solo|drop|break|breakdown|build-?up|crescendo|section|passage|melody|"
    r"theme|beat|rhythm|vocals?|voices?|singer|drums?|guitars?|piano|bass|strings|synths?|timestamps?|mark|fades?|"
    r"length|duration|runtime|lasts|runs|long)\b",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(?i:\bo['’]clock|\bnoon|\bmidnight|\bmorning|\bafternoon|\bevening|\bnight|\btonight|\btoday|\btomorrow|"
    r"\byesterday|\bdaily|\bweekdays?|\bclock|\balarm|\bdoors|\btrain|\bbus|\bflight|\bmeeting|\bappointment|\bnews|"
    r"\bshow|\bclass|\bschool|\bbreakfast|\blunch|\bdinner|\bopens|\bcloses|\barrives?|\bdeparts?|\bsays?|\bsaid|"
    r"\bit['’]s|\bit is|\d\s?[ap]\.?m\b)|"
    r"\b(?:UTC|GMT|CET|EST|PST|Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)(?:days?)?\b"
)
_NOUN = (
    r"(?:song|track|clip|audio|recording|video|film|mark|version|cut|edit|mix|remix|solo|intro|outro|piece|movement|"
    r"performance|excerpt|segment|section|passage|break|loop|sample|take)\b"
)
_BOOKS = (
    "Genesis|Exodus|Leviticus|Numbers|Deuteronomy|Joshua|Judges|Ruth|Samuel|Kings|Chronicles|Ezra|Nehemiah|Esther|Job|"
    "Psalms?|Proverbs|Ecclesiastes|Isaiah|Jeremiah|Lamentations|Ezekiel|Daniel|Hosea|Joel|Amos|Micah|Zechariah|Malachi|"
    "Matthew|Mark|Luke|John|Acts|Romans|Corinthians|Galatians|Ephesians|Philippians|Colossians|Thessalonians|Timothy|"
    "Titus|Hebrews|James|Peter|Revelation|Quran|Surah"
)
_SEEN_BEFORE_A_RATIO = (
    r"(?:(?<=\bratio of )|(?<=\bscale of )|(?<=\bodds of )|(?<=\bodds are )|(?<=\bwon )|(?<=\blost )|(?<=\bscore of )|"
    r"(?<=\bscore is )|(?<=\bscore was ))"
)
_SEEN_BEHIND_A_RATIO = (
    r"(?= (?:ratios?|scale|odds|compression|aspect|dilution|polyrhythms?|victory|win|defeat|lead)\b)"
)


def _of(count: int | str, name: str) -> str:
    return f"{count} {name}" if str(count) == "1" else f"{count} {name}s"


def _range(found: re.Match[str]) -> str:
    """3:00–4:00 is "3 to 4", of which the last says what they are."""
    first, last = found["first"], found["last"]
    whole = re.fullmatch(r"0?([1-9]|1[0-2]):00", first)
    same = re.match(rf"0?(?:[1-9]|1[0-2]):00(?![:.,\d])|.*{_AM_PM}$", last, re.IGNORECASE)
    return f"{whole[1] if whole and same else first} to {last}"


def _duration(found: re.Match[str]) -> str:
    """1:02:03 → 1 hour 2 minutes 3 seconds; what is 0 is left out."""
    hours, minutes = int(found["hours"] or 0), int(found["minutes"])
    part = found["part"].rstrip("0") if found["part"] else ""
    seconds = str(int(found["seconds"])) + (f".{part}" if part else "")
    said = [_of(hours, "hour")] * bool(hours) + [_of(minutes, "minute")] * bool(minutes)
    if seconds != "0" or not said:
        said.append(_of(seconds, "second"))
    return " ".join(said)


def _whole_hour(found: re.Match[str]) -> str:
    number = int(found["hour"])
    text, before, after = found.string, found.string[: found.start()], found.string[found.end() :]
    if re.match(r"\s+(?:o['’]clock|noon|midnight)\b", after):
        return str(number)
    if re.match(r"\s?(?:hours|hrs|h)\b", after):
        return f"{number} hundred"
    recorded = number > 24 or before.endswith("[") or after.startswith("]")
    if recorded or (_RECORDED.search(text) and not _CLOCK.search(text)):
        if number == 0:
            return "0"
        return f"{number} minute" if re.match(rf" {_NOUN}", after) else _of(number, "minute")
    if number == 0:
        return "midnight" if _CLOCK.search(text) else "0"
    return f"{number} o'clock" if number <= 12 else f"{number} hundred"


_RULES = rules(
    (r"(?i)\bhh?:mm:ss\b", "hours, minutes and seconds"),
    (r"(?i)\bhh:mm\b", "hours and minutes"),
    (r"(?i)\bmm?:ss\b", "minutes and seconds"),
    (
        rf"\b({_BOOKS}) (\d{{1,3}}):(\d{{1,3}})(?:[-–—](\d{{1,3}}))?(?![\w:]|[.,]\d| ?[ap]m\b)",
        lambda m: f"{m[1]} {m[2]} {m[3]}" + (f" to {m[4]}" if m[4] else ""),
    ),
    (
        rf"{_ALONE}(?!\d{{1,2}}:[0-5]\d:[0-5]\d)\d{{1,3}}(?::\d{{1,3}}){{2,}}{_NO_MORE}",
        lambda m: m[0].replace(":", " to "),
    ),
    (
        rf"{_SEEN_BEFORE_A_RATIO}(\d{{1,3}}(?::\d{{1,3}}){{1,2}}){_NO_MORE}"
        rf"|{_ALONE}(\d{{1,3}}(?::\d{{1,3}}){{1,2}}){_SEEN_BEHIND_A_RATIO}",
        lambda m: (m[1] or m[2]).replace(":", " to "),
    ),
    (
        rf"(?<![\w:.])(?P<first>{_TIME})\s*(?:[-–—~→]|-->?|\bto\b)\s*(?P<last>{_TIME})(?!\w|:\d)",
        _range,
    ),
    (
        rf"{_ALONE}(?P<hours>\d{{1,3}}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)(?:[.,](?P<part>\d{{1,3}}))?"
        rf"(?![\w:])(?!(?i:{_AM_PM}))",
        _duration,
    ),
    # A fraction makes it minutes and seconds.
    (
        rf"{_ALONE}(?P<hours>)(?P<minutes>\d{{1,3}}):(?P<seconds>[0-5]\d)\.(?P<part>\d{{1,3}})(?![\w:])",
        _duration,
    ),
    # So does a unit behind it.
    (
        rf"{_ALONE}(?P<hours>)(?P<minutes>\d{{1,3}}):(?P<seconds>[0-5]\d)(?P<part>) ?(?:mins?|minutes?|m|secs?|s)\b\.?",
        _duration,
    ),
    # The minutes of a whole hour are not read before a.m. and p.m.
    (rf"\b0?(\d{{1,2}}):00(?=(?i:{_AM_PM}))", r"\1"),
    (rf"\b0?(\d{{1,2}}):0([1-9])(?=(?i:{_AM_PM}))", r"\1 oh \2"),
    (rf"{_ALONE}(?P<hour>\d{{1,3}}):00{_NO_MORE}", _whole_hour),
    (rf"{_ALONE}0?([1-9]\d{{0,2}}):0([1-9]){_NO_MORE}", r"\1 oh \2"),
    (rf"{_ALONE}0(\d:[0-5]\d){_NO_MORE}", r"\1"),
    (r"(?i)(?<=\d)([ap]m)\b", r" \1"),
    (
        r"\b(noon|midnight)\s?[-–—]\s?(?=\d)|(?<=\d)\s?[-–—]\s?(?=(?:noon|midnight)\b)",
        lambda m: f"{m[1] or ''} to ",
    ),
    (r"(?i)(?<=[ap]m)\s?[-–—]\s?(?=(?:noon|midnight)\b)", " to "),
    (r"(?i)(?<=\d )([ap]\.?m\.?)\s?[-–—]\s?(?=\d)", r"\1 to "),
    (r"(?<![\w:.,])(\d{1,3}):(\d{1,3}(?:,\d{3})+)(?![\w:])", r"\1 to \2"),
    (r"(?<![\w:.,])(\d{1,3}):(\d)(?![\d:])", r"\1 to \2"),  # a ratio
    (r"(?<![\w:.,])(16:9|16:10|21:9)(?![\d:])", lambda m: m[1].replace(":", " to ")),
)


def say(text: str) -> str:
    return apply(_RULES, text)
