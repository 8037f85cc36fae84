"""Cuts text deltas into segments to speak, as early as sounds natural.

The text is read character by character, so the segments do not depend on token boundaries. A segment ends with a
sentence or line, at a clause mark once it is long enough, or, in text without punctuation, between two words. The first
is short, so that speech begins early; later ones are longer, because a voice sounds better on a whole sentence, and
earlier speech is still playing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from af3.speech.spoken.markup import plain

Ending = Literal["clause", "sentence"]


@dataclass(frozen=True)
class Segment:
    """A piece of the answer: `speech` is read aloud, `source` is its original text.

    The joined sources of an answer's segments are the answer's text, without an unspoken rest at its end.
    """

    speech: str
    source: str
    ending: Ending


@dataclass(frozen=True)
class Lengths:
    """In characters of text; about 15 are one second of speech."""

    sentence: int  # a sentence shorter than this waits for the next
    clause: int  # a clause shorter than this waits for the rest
    words: int  # without any mark, the segment is cut between two words here


# One entry per segment number; the last applies to all later segments.
Pace = tuple[Lengths, ...]
# For a voice that takes no time: wait for phrases that sound natural.
INSTANT: Pace = (Lengths(1, 12, 70), Lengths(20, 40, 120), Lengths(40, 80, 200))
# For a voice that takes half as long as its speech: begin with three to five words. Each segment is made while the
# previous one plays, so it may be about twice as long. The longest blocks other requests for three seconds.
COMPUTED: Pace = (Lengths(1, 8, 18), Lengths(12, 24, 40), Lengths(25, 45, 80), Lengths(40, 70, 120))

_LONGEST = 400  # a longer "word" is cut anywhere; this much text without anything to speak is dropped

# After these, and after a single letter ("J. S. Bach", "e.g."), a full stop does not end a sentence.
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st sr jr vs etc approx ca cf al inc ltd corp dept capt lt sgt hon gov sen rep feat ft arr hob"
    " vln vla vc hn tpt tbn bsn timp sym symph".split()
)
# Nor after these when a number follows: "No. 5", "Jan. 5", but "No. It is not."
_BEFORE_NUMBERS = frozenset(
    "no nos op opp fig figs vol ch sec eq mvt ver pp mm rs jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
# Words that belong to the next one: avoid a cut after them.
_LEANING = frozenset(
    "a an the of to in on at by for from with and or but as is are was were be been am has have had will would can"
    " could do does did not no my your his her its our their this that these those very so i you he she it we they"
    " who which there".split()
)
_HIDDEN = {"```": "```", "<think>": "</think>"}  # text between these is not spoken
_FORMULAS = {"\\(": "\\)", "\\[": "\\]", "$$": "$$"}  # text between these is not cut
_OPENERS = "\"'“‘«([{*_`~"
_CLOSERS = "\"'”’»)]}*_`~"
_MARKS_WITHOUT_SPACE = ("。", "！", "？")  # in scripts without spaces
_SENTENCE_MARKS = (".", "!", "?", "…", *_MARKS_WITHOUT_SPACE)
_DASHES = (" –", " —", " -")
_CLAUSE_MARKS = (",", ";", ":", *_DASHES)
_RELATIONS = "=≈<>≤≥+×"  # no sentence begins with one: the dot before it is that of a note, ♩. = 60
_CHORD_LETTERS = "ABCDEFGIVivb♭#♯"
_CHORD_AND_DASH = re.compile(r"(?:^|[\s(])[b♭#♯]?[A-GIViv][^\s.,;:!?–—-]{0,9} [–—-]$")  # F - G - C
_INITIALS = re.compile(r"([^\W\d_]\.)*[^\W\d_]")
_NUMBER_OF_A_LIST = re.compile(r"\s*(?:\d+|[IVX]{1,5})\.")


class Segmenter:
    """Segments one answer. The work is linear in the length of the text, whatever it contains."""

    def __init__(self, pace: Pace = INSTANT) -> None:
        self._pace = pace
        self._text = ""  # since the last cut, without hidden text; at most _LONGEST
        self._source: list[str] = []  # all characters since the last cut
        self._hidden_until = ""
        self._tail = ""
        self._formula_until = ""
        self._count = 0
        self._retry_at = 0  # after a text without anything to speak: the length at which to try again
        self._word_at: tuple[int, int] | None = None  # lengths of text and source before the last word

    def push(self, delta: str) -> list[Segment]:
        """Return the segments that `delta` completes, in order."""
        return [segment for character in delta if (segment := self._read(character)) is not None]

    def stalled(self) -> list[Segment]:
        """Return the phrase so far, as at most one segment, when no text has come for a while.

        Holds back a last word that may be incomplete, and a number whose unit may follow.
        """
        if self._hidden_until or self._formula_until:
            return self._stalled_at(self._word_at)
        last = self._text.rstrip()[-1:]
        complete = self._text != self._text.rstrip() or last in (*_SENTENCE_MARKS, ",", ";", ":", "—")
        if complete and not _belongs_to_what_follows(self._text):
            return self._stalled_at((len(self._text), len(self._source)))
        return self._stalled_at(self._word_at)

    def flush(self) -> list[Segment]:
        """Return the rest at the end of the answer, as at most one segment."""
        segment = self._cut("sentence")
        return [] if segment is None else [segment]

    def _stalled_at(self, place: tuple[int, int] | None) -> list[Segment]:
        if place is None:
            return []
        formula_until = self._formula_until
        text, source = self._text[place[0] :], self._source[place[1] :]
        self._text, self._source = self._text[: place[0]], self._source[: place[1]]
        segment = self._cut("clause")
        self._text, self._source = self._text + text, self._source + source
        self._formula_until = formula_until
        if segment is None:
            return []
        self._retry_at = 0
        return [segment]

    def _read(self, character: str) -> Segment | None:
        ending = None if self._hidden_until else self._ending_before(character)
        segment = None if ending is None else self._cut(ending)
        self._source.append(character)
        if self._hidden_until:
            self._tail = (self._tail + character)[-len(self._hidden_until) :]
            if self._tail == self._hidden_until:
                self._hidden_until = ""
            return segment
        self._follow_formula(character)
        self._text += character
        for opening, closing in _HIDDEN.items():
            if self._text.endswith(opening):
                self._text = self._text[: -len(opening)] + " "
                self._hidden_until, self._tail = closing, ""
        return segment

    def _follow_formula(self, character: str) -> None:
        """Track whether the text up to `character` is inside a formula."""
        text = self._text[-2:] + character
        if self._formula_until:
            if text.endswith(self._formula_until) or (self._formula_until == "$" and character == "\n"):
                self._formula_until = ""
        elif text[-2:] in _FORMULAS:
            self._formula_until = _FORMULAS[text[-2:]]
        # A digit after the dollar sign makes it a price.
        elif text[-2:-1] == "$" and not (text[:-2].isalnum() or character.isspace() or character.isdigit()):
            self._formula_until = "$"

    def _ending_before(self, character: str) -> Ending | None:
        """Return how the text ends when it can be cut before `character`; None when it cannot."""
        if len(self._text) >= _LONGEST:
            return "clause"
        if self._formula_until:
            return None
        starts_a_word = self._text[-1:].isspace() and not character.isspace()
        if not (starts_a_word or character == "\n" or self._text.endswith(_MARKS_WITHOUT_SPACE)):
            return None
        ending = self._ending_of_word(character)
        if starts_a_word and not _joins(self._text, character):
            self._word_at = len(self._text), len(self._source)
        return ending if len(self._text) >= self._retry_at else None

    def _ending_of_word(self, character: str) -> Ending | None:
        lengths = self._pace[min(self._count, len(self._pace) - 1)]
        length = len(self._text.strip())
        if character == "\n" or self._ends_a_sentence(character):
            return "sentence" if length >= lengths.sentence else None
        text = self._text.rstrip().rstrip(_CLOSERS)
        if text.endswith(_CLAUSE_MARKS):
            between_numbers = (
                text.endswith(_DASHES) and text[:-2].rstrip()[-1:].isalnum() and _is_sign(character)
            )
            apart = not between_numbers and not (character in _CHORD_LETTERS and _CHORD_AND_DASH.search(text))
            return "clause" if length >= lengths.clause and apart else None
        if length < lengths.words:
            return None
        if length >= lengths.words * 3 // 2:
            return "clause"
        leans = text.rsplit(None, 1)[-1:][0].lower() in _LEANING if text else False
        return None if leans or _joins(self._text, character) else "clause"

    def _ends_a_sentence(self, next_character: str) -> bool:
        text = self._text.rstrip().rstrip(_CLOSERS)
        if not text.endswith("."):
            return text.endswith(_SENTENCE_MARKS) and not (
                text[-1] == "!" and next_character in "=·×"
            )  # n! = 6
        if next_character.islower() or next_character in _RELATIONS:
            return False
        last = text.split()[-1].lstrip(_OPENERS).rstrip(".")
        if last == "No" and next_character in "IVX" and text.strip() != "No.":  # Symphony No. IX
            return False
        word = last.lower()
        if word in _ABBREVIATIONS or _INITIALS.fullmatch(word):
            return False
        if word in _BEFORE_NUMBERS and next_character.isdigit():
            return False
        return not _NUMBER_OF_A_LIST.fullmatch(text.rsplit("\n", 1)[-1])

    def _cut(self, ending: Ending) -> Segment | None:
        """Cut a segment from the text so far; None when there is nothing to speak (a long text is then dropped)."""
        speech = plain(self._text)
        if not speech:
            self._retry_at = len(self._text) * 3 // 2 + 1
            if len(self._text) >= _LONGEST:
                self._forget_text()
            return None
        segment = Segment(speech, "".join(self._source), ending)
        self._source = []
        self._forget_text()
        self._count += 1
        return segment

    def _forget_text(self) -> None:
        self._text, self._retry_at, self._word_at, self._formula_until = "", 0, None, ""


def _is_sign(character: str) -> bool:
    """Whether a word that begins with `character` may belong to the previous word: 5 | 000, a | × b, B | ♭."""
    return not character.isalpha() and character not in _OPENERS


def _joins(text: str, next_character: str) -> bool:
    """Whether the last word of `text` and the word beginning with `next_character` are read as one: 5 kHz, a × b."""
    if _belongs_to_what_follows(text):
        return True
    if next_character.isdigit():
        word = text.rstrip().rsplit(None, 1)[-1:]
        return not (word and word[0].isalpha() and word[0].islower())  # "at 5" are two, "May 5" is one
    return _is_sign(next_character)


def _belongs_to_what_follows(text: str) -> bool:
    """Whether the last word of `text` may need the next one: a number its unit, a sign its right operand."""
    word = text.rstrip().rsplit(None, 1)[-1:]
    if not word:
        return False
    last = word[0][-1]
    if last in ".,":
        return text[-1:] == last and word[0][:-1][-1:].isdigit()  # may become 3.14 or 1,000
    return _is_sign(last) and last not in _CLOSERS and last not in ";:!?…。！？—"
