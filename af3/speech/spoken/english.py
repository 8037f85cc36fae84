"""English: what signs, numbers, units and notes are called. For voices whose language is English."""

from __future__ import annotations

import re

from af3.speech.spoken import abbreviations, dates, maths, money, music, numbers, scores, units

# Each takes what is certainly its own, so the order is from the narrow to the wide: a date before a range,
# a price before a number, a chord before a unit ("Am7"), a unit before a sign ("m²").
_STEPS = (
    abbreviations.say,
    numbers.say_phone_numbers,
    scores.say,
    dates.say,
    money.say,
    music.say,
    numbers.say_ranges,
    units.say,
    numbers.say,
    maths.say,
)


def in_english(text: str) -> str:
    """`text`, as `markup.plain` gives it, in words. Plain numbers such as 42 and 3.14 stay digits."""
    written = text
    for step in _STEPS:
        text = step(text)
    if text == written:
        return text
    return re.sub(r"\s+([.,;:!?])", r"\1", " ".join(text.split()))
