"""Spells out notes, keys, chords, time signatures and tempo."""

from __future__ import annotations

import re

from af3.speech.spoken.degrees import NUMERAL
from af3.speech.spoken.numbers import roman_value
from af3.speech.spoken.rules import apply, rules

_ACCIDENTALS = {
    "♭♭": "double flat", "𝄫": "double flat", "bb": "double flat", "♯♯": "double sharp", "𝄪": "double sharp",
    "##": "double sharp", "♭": "flat", "b": "flat", "♯": "sharp", "#": "sharp", "♮": "natural",
}  # fmt: skip
_SIGN = "♭♭|♯♯|𝄫|𝄪|##|♭|♯|♮|#"
# A chord's root may have `b` for a flat; "Ab" and "Bb" alone may be words of other languages.
_ROOT = rf"[A-G](?:{_SIGN}|b(?!b))?"
_QUALITY = {
    "maj": "major", "Maj": "major", "M": "major", "Δ": "major", "min": "minor", "m": "minor", "-": "minor",
    "dim": "diminished", "°": "diminished", "ø": "half diminished", "aug": "augmented", "+": "augmented",
    "sus": "sus", "add": "add", "alt": "altered", "no": "no", "dom": "dominant", "/": "over",
    "#": "sharp", "♯": "sharp", "b": "flat", "♭": "flat",
}  # fmt: skip
_PART = re.compile(r"maj|Maj|min|dim|aug|sus|add|alt|dom|no|m|M|Δ|ø|°|\+|-|[#♯b♭]|\d+|/|[()]")
_DEGREE = r"(?:1[13]|[2345679])"
_EXTENSION = (
    rf"(?:maj|Maj|min|dim|aug|sus|add|alt|dom|no|m|M|Δ|ø|°|\+|[#♯b♭](?={_DEGREE})|{_DEGREE}"
    r"|\((?:[#♯b♭]|add|no|maj|\d|[, ]){1,12}\))"
)
_ANY_CHORD = rf"{_ROOT}{_EXTENSION}{{0,6}}(?:/(?:{_ROOT}|9))?"
_CHORD = rf"(?P<root>{_ROOT})(?P<kind>{_EXTENSION}{{0,6}})(?:/(?P<bass>{_ROOT}|9))?"
# A quality with a number or name makes a chord certain; "Am" and "C7" alone may be something else.
_CERTAIN = re.compile(r"maj|Maj|min|dim|aug|sus|add|alt|Δ|ø|m.|M\d|[#♯b♭]\d|\+\d|°")
_MODES = (
    r"(?:[Mm]ajor|[Mm]inor|maj|min|[Hh]armonic|[Mm]elodic|[Nn]atural|[Dd]orian|[Pp]hrygian|[Ll]ydian|[Mm]ixolydian|"
    r"[Aa]eolian|[Ll]ocrian|[Pp]entatonic|[Bb]lues|[Dd]ominant|[Dd]iminished|[Aa]ugmented|flat|sharp)"
)
_MUSICAL = r"(?:chords?|key|keys|scale|triad|arpeggio|progression|note|notes|string|tonality|seventh)"
_NEIGHBOUR = r"[A-G](?:[#♯b♭]|m|7)*\d?"
_CHORDS_BEFORE = re.compile(
    rf"(?<![\w']){_NEIGHBOUR}[\s,–—|→>-]+(?:and )?$|(?:[Cc]hords?|[Kk]ey of|[Pp]rogression(?: of)?):? $"
)
_CHORDS_AFTER = re.compile(rf"(?:\s*[-–—|→,>]+\s*|\s+){_NEIGHBOUR}(?![\w'])| {_MUSICAL}\b")
_COUNTED = re.compile(r"(?:^|[\s(~≈<>+−-])[\d.,:/]+ $")  # 5 A, at 7 Am
_OF = r"(?:VII|VI|IV|V|III|II|vii|vi|iv|v|iii|ii)"  # V/vi: the degree that another belongs to
_ROMAN_CHORD = rf"[b♭#♯]?{NUMERAL}(?:[°ø]7?|maj7|7|9)?(?:/{_OF}(?![A-Za-z]))?"
_NOTE_VALUES = {
    "♩": "quarter", "♪": "eighth", "\U0001d157": "half", "\U0001d15d": "whole", "\U0001d161": "sixteenth",
}  # fmt: skip
_NOTE_SIGN = f"[{''.join(_NOTE_VALUES)}]"
_ARROW = r"\s*(?:[-–—|]|→|->)\s*"
_METRE = (
    r"(?:time|meter|metre|signature|beats?|rhythms?|grooves?|waltz|feel|march|patterns?|measures?|bars?|shuffle|swing|"
    r"polymeter|clave|jig|passages?|sections?|phrases?)"
)
# Words, certain metres, and groups of beats, beside which another fraction is a metre too.
_OF_METRE = re.compile(
    r"\b(?:met(?:er|re)s?|time signatures?|waltz|polymet(?:er|re)s?)\b"
    r"|(?<![\d/])(?:4/4|6/8|12/8|9/8|2/4|7/4|5/4)(?![\d/])|\(\d(?:\+\d)+\)",
    re.IGNORECASE,
)
_LENGTHS = {
    "1": "whole",
    "2": "half",
    "4": "quarter",
    "8": "eighth",
    "16": "sixteenth",
    "32": "thirty-second",
}
_LENGTHS["64"] = "sixty-fourth"
# Chords over their third, fifth or seventh; "A/B" is a test and "A/D" a converter.
_SLASH_CHORDS = frozenset(
    "CE CG CB FA FC FE GB GD GF DA DC DF AE AG AC EG EB ED BD BF C9 D9 E9 F9 G9 A9 B9".split()
)


def _note(letter: str, accidental: str) -> str:
    """Spell out a note. A hyphen after A keeps a voice from reading it as the article."""
    if not accidental:
        return letter
    return f"{letter}{'-' if letter == 'A' else ' '}{_ACCIDENTALS[accidental]}"


def _chord(root: str, kind: str, bass: str | None) -> str:
    said = [_note(root[0], root[1:])]
    for part in _PART.findall(kind.replace("6/9", "6 9")):
        if part not in "()":
            said.append(_QUALITY.get(part, part))
    if bass == "9":
        said.append("9")
    elif bass:
        said += ["over", _note(bass[0], bass[1:])]
    words = " ".join(said)
    return re.sub(r"^A (?=[a-z])", "A-", words)


def _say_chord(chord: re.Match[str]) -> str:
    root, kind, bass = chord["root"], chord["kind"], chord["bass"]
    if _COUNTED.search(chord.string[: chord.start()][-12:]):
        return chord[0]
    certain = _CERTAIN.search(kind) or ("m" in kind and (len(root) > 1 or root in "BCDFG"))
    inverted = bass and (len(root + kind + bass) > 2 or root + bass in _SLASH_CHORDS)
    if certain or (len(root) > 1 and (kind or bass)) or inverted or _is_among_chords(chord):
        return _chord(root, kind, bass)
    return chord[0]


def _is_among_chords(chord: re.Match[str]) -> bool:
    """Whether another chord or a musical term is next to it: "Am" is also German, "Em" Portuguese."""
    if not chord["kind"] and len(chord["root"]) == 1 and not chord["bass"]:
        return False
    before, after = chord.string[: chord.start()][-24:], chord.string[chord.end() :][:24]
    if re.search(r"[a-zé\d,;:] $", before) and chord["kind"].startswith("m"):
        return True  # inside a sentence, the words "am" and "em" would not be capitalised
    return bool(_CHORDS_BEFORE.search(before) or _CHORDS_AFTER.match(after))


def _progression(chords: re.Match[str]) -> str:
    return re.sub(_ARROW, ", ", chords[0])


def _romans(chords: re.Match[str]) -> str:
    def degree(chord: re.Match[str]) -> str:
        sign, numeral, rest = chord.groups()
        number = roman_value(numeral.upper())
        quality = rest.replace("°", "diminished ").replace("ø", "half diminished ").replace("maj", "major ")
        return f"{_ACCIDENTALS[sign] + ' ' if sign else ''}{number} {quality}".strip()

    said = re.sub(r"([b♭#♯])?([IViv]+)([°ø]7?|maj7|7|9|)", degree, chords[0]).replace("/", " of ")
    return re.sub(rf"{_ARROW}|,\s*", ", ", said)


def _degrees(numerals: str) -> str:
    return re.sub(_ROMAN_CHORD, lambda m: _romans(m), numerals)


# Superscripts of chords and subscripts of notes.
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_OCTAVE = str.maketrans("₀₁₂₃₄₅₆₇₈", "012345678")


_RULES = rules(
    (
        r"(?<![\w♭♯])[A-G](?:maj|min|m|dim|aug|sus|add|ø|°|Δ|\+|-|[♭♯#b()\d]){0,4}(?:[♭♯#b(]?(?:¹[¹³]|[⁵⁶⁷⁹])\)?){1,3}(?!\w)",
        lambda m: m[0].translate(_RAISED),
    ),
    # Degrees of a scale or chord in a row: 1–♭3–5.
    (
        r"(?<![\w♭♯.,-])(?:R|[♭♯#b]?\d{1,2})(?:[–-][♭♯#b]?\d{1,2}){2,}(?![\w♭♯]|[.,]\d|[–-]\d)",
        lambda m: re.sub("[–-]", ", ", m[0]),
    ),
    (
        rf"(?<![\w♭♯])([A-G](?:{_SIGN}|b)?(?:maj|min|m|dim)?)\^(?=(?:Δ7?|ø7?|°7?|7|9|11|13)(?!\w))",
        r"\1",
    ),
    (rf"(?<![\w♭♯])([A-G](?:{_SIGN}|b)?)-(?=(?:Δ|maj)\d?(?!\w))", r"\1m"),
    (rf"(?<![\w♭♯])([A-G](?:{_SIGN}|b)?)o(?=7(?!\w))", r"\1°"),
    (
        r"(?<![\w♭♯])([A-G])([♭♯#]?)([₀-₈])(?![\w])",
        lambda m: m[1] + m[2] + m[3].translate(_OCTAVE) if m[2] or m[3] > "₁" else m[0],
    ),
    (r"(?<![\w♭♯])([A-G][♭♯#b])[-–](?=7(?!\w))", r"\1m"),
    (
        r"(?<!\w)([1-9]|12)\s?⁄\s?(2|4|8|16)(?= (?:" + _METRE + r")\b)|(?<![\w./])(4|6|9|12)⁄(4|8)(?![\w./])",
        lambda m: f"{m[1] or m[3]} {m[2] or m[4]}",
    ),
    (rf"(?<![\w♭♯]){_ROMAN_CHORD}(?:(?:{_ARROW}|, ){_ROMAN_CHORD}){{2,}}(?![\w♭♯])", _romans),
    (
        rf"(?<![\w♭♯]){_ROMAN_CHORD}(?:[–—→]{_ROMAN_CHORD})+(?![\w♭♯])"
        rf"|(?<![\w♭♯]){_ROMAN_CHORD}(?:{_ARROW}{_ROMAN_CHORD})+(?= (?:progression|cadence|turnaround))",
        _romans,
    ),
    (rf"(?<![\w♭♯]){_ROMAN_CHORD}(?: → {_ROMAN_CHORD})+(?![\w♭♯])", _romans),
    (
        rf"(?<![\w♭♯/])(?=\S*[♭♯#])[A-G](?:{_SIGN}|b)?(?:/[A-G](?:{_SIGN}|b)?){{2,}}(?![\w♭♯/])",
        lambda m: m[0].replace("/", ", "),
    ),
    # Chords or notes in a row, three or more: C–G–Am–F.
    (
        rf"(?<![\w♭♯]){_ANY_CHORD}(?:{_ARROW}{_ANY_CHORD}){{2,}}(?![\w♭♯#])",
        _progression,
    ),
    # A flat written with the letter b, where only a note is possible.
    (r"(?<![\w'’])([a-g])b(?=[ -](?:[Mm]ajor|[Mm]inor)\b)", lambda m: _note(m[1].upper(), "b")),
    (rf"(?<![\w'’])([A-G])(bb|b) (?={_MODES}\b)", lambda m: _note(m[1], m[2]) + " "),
    (
        rf"(?<![\w'’])(A)b(?=[0-8]\b|[,.;)]? (?:and|or|to) [A-G][b♭#♯]|, [A-G][b♭#♯]?\b| {_MUSICAL}\b)",
        lambda m: _note(m[1], "b") + " ",
    ),
    (r"(?<=[♭♯b#] and )Ab\b|(?<=[♭♯b#], )Ab\b|(?<=key of )Ab\b|(?<=[Cc]hord )Ab\b|(?<=note )Ab\b", "A-flat"),
    (
        rf"(?<![\w'’♭♯])(?![A-G]\+\+)(?=[A-G](?:[#♯b♭𝄪𝄫]|{_EXTENSION}|/)){_CHORD}(?![\w♭♯𝄪𝄫#'’]|/\w|\+)",
        _say_chord,
    ),
    (
        rf"(?<![A-Za-z])([A-Ga-g])({_SIGN})(?:(\d)(?!\d))?(?=([a-zA-Z]?))",
        lambda m: _note(m[1].upper(), m[2]) + (f" {m[3]}" if m[3] else "") + (" " if m[4] else ""),
    ),
    (r"(?<![\w'’])([B-G])b(?![\w'’])(?<!\d .b)", lambda m: _note(m[1], "b")),
    (r"(?<![\w'’])([BCDG])bb(?!\w)", lambda m: _note(m[1], "bb")),
    (
        rf"(?<![\w♭♯/])(?<!\d )(V|V7|V9|vii°7?|viiø7?)/({_OF})(?![\w♭♯/])",
        lambda m: f"{_degrees(m[1])} of {_degrees(m[2])}",
    ),
    (
        rf"(?<![\w♭♯])(?:[♭♯]{NUMERAL}|b(?:VII|VI|III|II))(?:maj7|°|ø|7|9)?(?![\w♭♯])",
        lambda m: _degrees(m[0]),
    ),
    (rf"(?<![\w♭♯]){_ROMAN_CHORD}(?:, {_ROMAN_CHORD})*,? (?:and|or) {_ROMAN_CHORD}(?= chords?\b)", _romans),
    (rf"\b({_ROMAN_CHORD})(?= chords?\b)", _romans),
    (
        r"(?<![\w#&])#(?:VII|VI|IV|III|II|vii|vi|iv|iii|ii)(?:[°ø]7?|maj7|7)?(?![\w♭♯])",
        lambda m: _degrees(m[0]),
    ),
    (r"(?<=[b♭]\d)(, ?|/| and | or )#(?=(?:4|5|9|11)\b)", r"\1sharp "),
    (
        r"(?<!\w)#(?=(?:4|5|9|11)(?: (?:chord|tension|extension|alteration|interval|degree)s?\b"
        r"|(?:, ?| and | or )[b♭♯]\d))",
        "sharp ",
    ),
    (r"(?<![\w'’])([A-G])b([0-8])(?!\w)", lambda m: f"{_note(m[1], 'b')} {m[2]}"),
    (r"(?<=\d)\s*𝄪|𝄪", " double sharp "),
    ("𝄫", " double flat "),
    (r"♭(?=\d)", "flat "),
    (r"♯(?=\d)", "sharp "),
    ("♭", " flat "),
    ("♯", " sharp "),
    ("♮", " natural "),
    (
        r"\b([A-G]|sharp|flat) (maj|min)(?=(?:7|9|11|13)?\b)(?! ?\d ?\d)",
        lambda m: f"{m[1]}{'-' if m[1] == 'A' else ' '}{_QUALITY[m[2]]} ",
    ),
    # The note A: a capital A inside a sentence is not the article; at its beginning it may be.
    (r"\b([B-G]|sharp|flat) (dim|aug)(?=7?(?:[.,;:)]|$| chord))", lambda m: f"{m[1]} {_QUALITY[m[2]]}"),
    (rf"(?<=[a-z,:;(=→–/-] )A (?={_MODES}\b)|(?<=[(\"“→–])A (?={_MODES}\b)", "A-"),
    (rf"^A (?={_MODES}(?: {_MUSICAL})?\s*(?:[.,;:!?)→]|$))|^A (?=(?:[Mm]ajor|[Mm]inor) {_MUSICAL}\b)", "A-"),
    # Time signatures: certain when they cannot be fractions, else recognised by the words around them.
    (
        r"(?<![\w./,-])(\d{1,2})/(2|4|8|16)(?= (?:and|or|to|→) (?:4/4|2/2|6/8|12/8|9/8|2/4|6/4|5/4|7/4)(?![\w/]))"
        r"|(?<=[468]/[48] to )(\d{1,2})/(2|4|8|16)(?![\w/])",
        lambda m: f"{m[1] or m[3]} {m[2] or m[4]}",
    ),
    (r"(?<![\w./,-])(4|2|6|9|12|3|5|7|1[013579])/(4|8|16|2)(?= (?:" + _METRE + r")\b|-time\b)", r"\1 \2"),
    (r"(?i)\b((?:signature|met(?:er|re)) (?:is|of) )(\d{1,2})/(\d{1,2})", r"\1\2 \3"),
    (
        r"(?<![\w./,-])([2-9]|1[0-9])/(2|4|8|16)(?![\w/]|[.,]\d| (?:of|cup|inch|mile|hour|tea|table)s?\b)",
        lambda m: f"{m[1]} {m[2]}" if _OF_METRE.search(m.string) else m[0],
    ),
    (r"(?<=\b[Ii]n )(2|3|4|5|6|7|9|12)/(2|4|8|16)(?![\w/])(?! (?:of|cup|inch|mile|hour))", r"\1 \2"),
    (r"(?<=\b[Ii]n a )(2|3|4|5|6|7|9|12)/(2|4|8|16)(?![\w/])", r"\1 \2"),
    (
        r"(?<![\w./,√-])(4/4|2/2|6/8|12/8|9/8|2/4|6/4|5/4|7/4|4/8|1[01358]/8|1[79]/16)(?![\w/]|[.,]\d)",
        lambda m: m[1].replace("/", " "),
    ),
    # Lengths of notes and the tempo.
    (r"(?<![\w./,])1/(1|2|4|8|16|32)T\b", lambda m: f"{_LENGTHS[m[1]]} note triplet"),
    (r"(?<![\w./,])1/(1|2|4|8|16|32)D\b", lambda m: f"dotted {_LENGTHS[m[1]]} note"),
    (
        r"(?<![\w./,])1/(1|2|4|8|16|32|64)(?=(?:,? (?:and |or |to )?1/\d{1,2}){1,4}[- ](?:note|triplet|rest)s?\b)",
        lambda m: _LENGTHS[m[1]],
    ),
    (
        r"(?<![\w./,])1/(1|2|4|8|16|32|64)(?:st|nd|th)?[- ]"
        r"(?=(?:note|triplet|rest|grid|step|pulse|hi-hat|swing|delay)s?\b)",
        lambda m: _LENGTHS[m[1]] + " ",
    ),
    (r"(?<![\w./,])(4|8|16|32|64)th[- ](?=notes?\b|triplets?\b|rests?\b)", lambda m: _LENGTHS[m[1]] + " "),
    (
        rf"({_NOTE_SIGN})\s*(\.?)\s*=\s*",
        lambda m: f"{'dotted ' if m[2] else ''}{_NOTE_VALUES[m[1]]} note equals ",
    ),
    (
        rf"({_NOTE_SIGN})\s*(\.?)(?=\s*≈|$|\s*[,;)])",
        lambda m: f"{'dotted ' if m[2] else ''}{_NOTE_VALUES[m[1]]} note",
    ),
    (r"[½¼⅛](?=[ -](?:note|rest|beat)s?\b)", lambda m: _LENGTHS["248"["½¼⅛".index(m[0])]]),
    (r"\bA4([34]\d)\b", r"A-4 \1"),  # the pitch that is tuned to
    # Drum machines and their sounds: TR-808, 808s.
    (r"\b(TR|TB|SP|SH|MC|CR|JX|MPC)-?(\d)0(\d)\b", r"\1 \2 oh \3"),
    (
        r"(?<![\w.,])(8)0(8)(?:['’]?(s))?(?= (?:bass|kick|drum|snare|clap|hi-hat|beat|pattern|style|sub)s?\b)"
        r"|(?<![\w.,])(?:(8)0(8)|(9)0(9))['’]?s\b",
        lambda m: (
            f"{m[1]} oh {'eights' if m[3] else '8'}" if m[1] else ("8 oh eights" if m[4] else "9 oh nines")
        ),
    ),
    (r"(?<=\d)( ?(?:BPM|bpm|Bpm))\s?[–—-]\s?(?=\d)", r"\1 to "),
    (r"(?<=\d)\+ ?(?:BPM|bpm|Bpm)\b", " plus beats per minute"),
    (r"(?<=\d) ?(?:BPM|bpm|Bpm)\b", " beats per minute"),
    (
        r"(?<![\w.,])(\d{1,2})[′'](?= (?:stop|rank|flute|pipe|bourdon|principal|diapason|reed|trumpet)s?\b)",
        r"\1 foot",
    ),
    (r"(?<=\d)-(?:BPM|bpm)\b", " beats per minute"),
    (r"\bN\.C\.", "no chord"),
)


def say(text: str) -> str:
    return apply(_RULES, text)
