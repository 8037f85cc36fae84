"""Text deltas → segments to speak, cut as early as they sound natural.

The text is read character by character, so the segments do not depend on how the model's tokens cut it.
A segment ends at the end of a sentence or line, at a clause mark once it is long enough, or, in text
without marks, at a word. The first is short, so that speech begins early; later ones are longer, for a
voice sounds better on a whole sentence and by then there is speech to play meanwhile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from af3.speech.markup import spoken

Ending = Literal["clause", "sentence"]


@dataclass(frozen=True)
class Segment:
    """A piece of the answer: `speech` is read aloud, `source` is the text it stands for.

    The sources of an answer's segments, joined, are the answer's text up to what is never spoken at its end.
    """

    speech: str
    source: str
    ending: Ending


@dataclass(frozen=True)
class _Lengths:
    """In characters of text; about 15 are one second of speech."""

    sentence: int  # a sentence shorter than this waits for the next
    clause: int  # a clause shorter than this waits for the rest
    words: int  # without any mark, the segment is cut between two words here


# By number of the segment; the last for all that follow.
_LENGTHS = (_Lengths(1, 12, 70), _Lengths(20, 40, 120), _Lengths(40, 80, 200))

_LONGEST = 400  # a "word" longer than this is cut anywhere

# A full stop after these does not end a sentence; nor does one after a single letter ("J. S. Bach", "e.g.").
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st sr jr vs etc approx ca cf inc ltd corp dept capt lt hon gov sen rep".split()
)
# Nor does one after these when a number follows: "No. 5", "Jan. 5", but "No. It is not."
_BEFORE_NUMBERS = frozenset(
    "no nos fig figs vol ch sec eq pp jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
_HIDDEN = {"```": "```", "<think>": "</think>"}  # nothing from the opening to the closing one is spoken
_OPENERS = "\"'“‘«([{*_`~"
_CLOSERS = "\"'”’»)]}*_`~"
_MARKS_WITHOUT_SPACE = ("。", "！", "？")  # of scripts that write no spaces
_SENTENCE_MARKS = (".", "!", "?", "…", *_MARKS_WITHOUT_SPACE)
_CLAUSE_MARKS = (",", ";", ":", " –", " —", " -")
_INITIALS = re.compile(r"([^\W\d_]\.)*[^\W\d_]")
_NUMBER_OF_A_LIST = re.compile(r"\s*\d+\.")


class Segmenter:
    """One answer's text in, its segments out."""

    def __init__(self) -> None:
        self._text = ""  # since the last cut, without what is hidden
        self._source = ""  # since the last cut, everything
        self._hidden_until = ""
        self._tail = ""
        self._count = 0

    def push(self, delta: str) -> list[Segment]:
        """The segments that `delta` completes, in order."""
        return [segment for character in delta if (segment := self._read(character)) is not None]

    def flush(self) -> list[Segment]:
        """What is left at the end of the answer, as at most one segment."""
        segment = self._cut("sentence")
        return [] if segment is None else [segment]

    def _read(self, character: str) -> Segment | None:
        ending = None if self._hidden_until else self._ending_before(character)
        segment = None if ending is None else self._cut(ending)
        self._source += character
        if self._hidden_until:
            self._tail = (self._tail + character)[-len(self._hidden_until) :]
            if self._tail == self._hidden_until:
                self._hidden_until = ""
            return segment
        self._text += character
        for opening, closing in _HIDDEN.items():
            if self._text.endswith(opening):
                self._text = self._text[: -len(opening)] + " "
                self._hidden_until, self._tail = closing, ""
        return segment

    def _ending_before(self, character: str) -> Ending | None:
        """How the text so far ends if it can be cut before `character`; None where it goes on."""
        starts_a_word = self._text[-1:].isspace() and not character.isspace()
        if not (starts_a_word or character == "\n" or self._text.endswith(_MARKS_WITHOUT_SPACE)):
            return "clause" if len(self._text) >= _LONGEST else None
        lengths = _LENGTHS[min(self._count, len(_LENGTHS) - 1)]
        length = len(self._text.strip())
        if character == "\n" or self._ends_a_sentence(character):
            return "sentence" if length >= lengths.sentence else None
        if self._text.rstrip().rstrip(_CLOSERS).endswith(_CLAUSE_MARKS):
            return "clause" if length >= lengths.clause else None
        return "clause" if length >= lengths.words else None

    def _ends_a_sentence(self, next_character: str) -> bool:
        text = self._text.rstrip().rstrip(_CLOSERS)
        if not text.endswith("."):
            return text.endswith(_SENTENCE_MARKS)
        if next_character.islower():
            return False
        word = text.split()[-1].lstrip(_OPENERS).rstrip(".").lower()
        if word in _ABBREVIATIONS or _INITIALS.fullmatch(word):
            return False
        if word in _BEFORE_NUMBERS and next_character.isdigit():
            return False
        return not _NUMBER_OF_A_LIST.fullmatch(text.rsplit("\n", 1)[-1])

    def _cut(self, ending: Ending) -> Segment | None:
        """A segment of the text so far; None, and the text stays, where there is nothing to say."""
        speech = spoken(self._text)
        if not speech:
            return None
        segment = Segment(speech, self._source, ending)
        self._text = self._source = ""
        self._count += 1
        return segment
