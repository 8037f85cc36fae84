"""Spells out signs, numbers, units and notes for English voices."""

from __future__ import annotations

import re

from af3.speech.spoken import (
    abbreviations,
    dates,
    degrees,
    intervals,
    letter_a,
    maths,
    money,
    music,
    numbers,
    scores,
    times,
    units,
)

# Each step takes only what is certain, so specific steps come first: a date before a range, a price before a number, a
# chord before a unit ("Am7"), a unit before a sign ("m²").
_STEPS = (
    abbreviations.say,
    numbers.say_phone_numbers,
    scores.say,
    dates.say,
    times.say,
    money.say,
    intervals.say,
    degrees.say,
    music.say,
    letter_a.say,
    numbers.say_ranges,
    units.say,
    numbers.say,
    maths.say,
)


def in_english(text: str) -> str:
    """Spell out the output of `markup.plain`. Plain numbers such as 42 and 3.14 stay digits."""
    written = text
    for step in _STEPS:
        text = step(text)
    if text == written:
        return text
    return re.sub(r"\s+([.,;:!?])", r"\1", " ".join(text.split()))
