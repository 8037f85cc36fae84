"""Spells out ordinals, fractions, ranges, versions and telephone numbers, or all numbers."""

from __future__ import annotations

import re

from num2words import num2words

from af3.speech.spoken.dates import ordinal
from af3.speech.spoken.rules import NUMBER, apply, rules

_VULGAR = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5),
    "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅐": (1, 7), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
    "⅑": (1, 9), "⅒": (1, 10),
}  # fmt: skip
_PARTS = {2: "half", 4: "quarter"}
_DENOMINATORS = r"(?:[2-9]|1[0-2]|16|20|24|25|32|64|128|100|1000)"
# At least two letters: "I" is a pronoun, "V" and "X" are letters. "XX" and "XXX" are not numbers either.
_ROMAN = r"(?:XX?(?:IX|IV|VI{0,3}|I{1,3})|X(?:V)|IX|IV|VI{1,3}|I{2,3})"
_RULERS = frozenset(
    "Henry Louis George Elizabeth Charles Edward William James Richard Philip Frederick Catherine Napoleon Alexander "
    "Nicholas Pius Benedict Leo Gregory".split()
)
_SCALES = {"k": "thousand", "M": "million", "bn": "billion", "B": "billion"}


def fraction(above: int, below: int, whole: str = "") -> str:
    """3/4 → three quarters; with `whole` 2: two and three quarters, 2 and a half."""
    part = _PARTS.get(below) or ordinal(below)
    if above != 1:
        part = "halves" if below == 2 else part + "s"
    count = num2words(above).replace("-", " ")
    if not whole:
        return f"{count} {part}"
    return f"{whole} and {'a' if above == 1 else count} {part}"


def _vulgar(found: re.Match[str]) -> str:
    behind = found.string[found.end() : found.end() + 1]
    return " " + fraction(*_VULGAR[found[2]], whole=found[1]) + ("" if behind == "-" else " ")


def _slashed(found: re.Match[str]) -> str:
    whole, above, below = found[1] or "", int(found[2]), int(found[3])
    if above == below and below in (5, 10, 100):
        return f"{whole} {above} out of {below}".strip()
    if above >= below > 12:
        return f"{above} {below}"
    if above >= below:
        return f"{whole} {above} over {below}".strip()
    if below in (10, 100, 5) and above > 1 and not whole:
        return f"{above} out of {below}"
    return fraction(above, below, whole.strip())


def _spaced(number: re.Match[str]) -> str:
    """Read digit by digit, with a pause between groups."""
    groups = [" ".join(group) for group in re.findall(r"\d+", number[0])]
    return ("plus " if number[0].startswith("+") else "") + ", ".join(groups)


def _version(found: re.Match[str]) -> str:
    return f"version {found[1].replace('.', ' point ')}"


def _range(found: re.Match[str]) -> str:
    first, last = (float(number.replace(",", "")) for number in (found["first"], found["last"]))
    spaced = found["dash"] != found["dash"].strip()
    equation = "=" in found.string and (
        (spaced and first >= last) or re.match(r"\s?=", found.string[found.end() :])
    )
    if equation or ("=" in found.string and found["dash"].strip() == "-"):
        return f"{found['first']} minus {found['last']}"
    if first >= last and found["dash"].strip() == "-":
        return f"{found['first']} minus {found['last']}" if spaced else f"{found['first']} {found['last']}"
    return f"{found['first']} to {found['last']}"


def _times(found: re.Match[str]) -> str:
    """Read a final "2x" as "2 times", but in an equation as "2 x"."""
    return " x" if re.search(r"=|\b(?:sin|cos|tan|log|ln|exp)\b", found.string) else " times"


def roman_value(numeral: str) -> int:
    """XVI → 16."""
    values = {"IX": 9, "IV": 4, "X": 10, "V": 5, "I": 1}
    return sum(values[part] for part in re.findall("IX|IV|X|V|I", numeral))


def _roman(found: re.Match[str]) -> str:
    number = roman_value(found[2])
    if found[1] in _RULERS:
        return f"{found[1]} the {ordinal(number)}"
    return f"{found[1]} {number}"


_PHONES = rules(
    (
        r"(?<![\w.,/-])\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){1,5}(?![\w/])(?<=\d{2})",
        lambda m: _spaced(m) if len(re.findall(r"\d", m[0])) >= 7 else m[0],
    ),
    (r"(?<![\w.,/+-])\(\d{3}\)\d{3}[-.]\d{4}(?![\w/-])", _spaced),
    (r"(?<![\w.,/+-])(?:1[ .-])?\(?\d{3}\)?[ .-]\d{3}[-.]\d{4}(?![\w/-])", _spaced),
    (r"(?<![\w.,/+-])\d{3}-\d{4}(?![\w/-]|\s?(?:[kMG]?Hz|dB|ms|samples|words|BPM|bpm|years)\b)", _spaced),
    (r"(?<![\w-])1-(8\d\d)-(?=[A-Z]{3})", lambda m: f"1 {' '.join(m[1])} "),
    (r"(?<![\w.,/+-])(?<!\d )0\d{2,4}[ -]\d{3,4}(?:[ -]\d{3,4})?(?![\w/-]|[.,]\d)", _spaced),
    (r"(?<=\bISBN )[\d-]{10,17}", _spaced),
    # Thousands with spaces: certain with two groups, with one where a unit follows.
    (r"(?<![\w.,] )(?<![\w.,+-])\d{1,3}(?: \d{3}){2,}(?![\w,]| \d|\.\d{3})", lambda m: m[0].replace(" ", "")),
    (r"(?<=[=≈≤≥] )(\d{1,3}) (\d{3})(?![\w.,]?\d| \d)", r"\1\2"),
    (
        r"(?<![\w.,/+-])(?<!\d )(\d{1,3}) (\d{3})(?= ?(?:[kM]?Hz|ms|samples|km|kg|people|users|hours|tokens)\b)",
        r"\1\2",
    ),
    (r"(?i)(?<=\bcall )\d{3}\b|(?<=\bdial )\d{3}\b", _spaced),
)
_RANGES = rules(
    (r"(?<=\d)[~～](?=\d)|(?<=\d) [~～] (?=\d)", " to "),
    (r"(?<=\d[x×])\s?[–—-]\s?(?=\d+(?:\.\d+)?[x×](?!\w))", " to "),
    (r"(?<![\w.])\d{1,3}(?:['’]\d{3})+(?![\w'’])", lambda m: re.sub("['’]", "", m[0])),
    (r"(?<=\d(?:st|nd|rd|th))\s?[–—-]\s?(?=\d{1,3}(?:st|nd|rd|th)\b)", " to "),
    (
        rf"(?<![\w.,/:$€£-])(?P<first>{NUMBER})(?P<dash>\s?[–—]\s?|-|\s-\s)(?P<last>{NUMBER})(?![\d:/]|[.,]\d|-\d)",
        _range,
    ),
    (r"(?<=\d)(\s?(?:°C|°F|°|%|[kMG]?Hz|dB|ms|s|m|cm|mm|km|kg|g|V|W))\s?[–—-]\s?(?=[-−+]?\d)", r"\1 to "),
    (
        rf"(?<![\w.,])([-−+])({NUMBER})\s?(?:–|—|\.\.\.|…|to)\s?([-−+])({NUMBER})",
        lambda m: f"{m[1]}{m[2]} to {m[3]}{m[4]}",
    ),
)
_RULES = rules(
    (r"~\s?(?=\d{1,3}/\d|[½⅓⅔¼¾⅕⅛])", "about "),
    (
        r"\b[vV](?!\d+[–—-])(\d+(?:\.\d+){0,3})(?![\w.]|\.\d)(?<!\.)|\b[vV](\d+(?:\.\d+){1,3})(?=\.(?:\s|$))",
        lambda m: f"version {(m[1] or m[2]).replace('.', ' point ')}",
    ),
    (r"(?<![\w.,])\d{1,3}(?:\.\d{3}){2,}(?![\w]|\.\d)", lambda m: m[0].replace(".", "")),
    (
        r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?::(\d{2,5})|/(\d{1,2}))?(?![\w]|\.\d)",
        lambda m: (
            m[1].replace(".", " dot ") + (f" port {m[2]}" if m[2] else f" slash {m[3]}" if m[3] else "")
        ),
    ),
    (
        r"(?<![\w.,])(480|720|1080|1440|2160)p(?=\d{0,3}\b)",
        lambda m: f"{m[1][:-2]} {m[1][-2:]} p ",
    ),
    (
        r"(?<![\w.])(?!\d\d\.\d\d\.\d\d\b)(\d{1,2})\.(\d{1,3})\.(\d{1,3})(?![\w]|\.\d)",
        r"\1 point \2 point \3",
    ),
    (r"(\d*)([½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒])", _vulgar),
    (
        r"(?<![\w./⁄])(\d+)⁄(\d+)(?![\w./⁄])",
        lambda m: (
            fraction(int(m[1]), int(m[2]))
            if int(m[1]) < int(m[2]) and int(m[2]) <= 100
            else f"{m[1]} over {m[2]}"
        ),
    ),
    (r"\s?⁄\s?", " over "),
    (r"(?<![\w&])#(?=\d)", "number "),
    (r"(?<![\w&])#(?=[^\W\d_]{2})", ""),  # a hashtag: its word
    (
        rf"\b([A-Z][a-z]+|chapter|part|act|type|phase|movement|level|stage|volume|section) ({_ROMAN})(?![\w'’])",
        _roman,
    ),
    (
        r"\b(Act|Part|Chapter|Book|Episode|Movement|Volume|Scene|Phase|Appendix|Section|Sonata|Suite) (I|V|X)"
        r"(?=[.,;:!?)]|$| (?:of|and|to|is|was|in|from|begins|ends|opens|has)\b)",
        _roman,
    ),
    (rf"\b(number) ({_ROMAN}|V|X)(?![\w'’])", _roman),
    (
        r"\b([IVX]{1,5})(?:st|nd|rd|th)?(?= (?:[cC]entury|[cC]enturies)\b)",
        lambda m: ordinal(roman_value(m[1])),
    ),
    (r"\b24/7\b", "24 7"),
    (r"\b0x([0-9A-Fa-f]{1,8})\b", lambda m: f"hex {' '.join(m[1].upper())}"),
    (r"(?<![\w./])(16|24|32)/(44\.1|48|88\.2|96|176\.4|192)(?![\w/]|\.\d)", r"\1 \2"),  # bits and kilohertz
    (r"\b9/11\b", "9 11"),
    (
        r"(?<![\w./,:$€£])(\d{1,2}\.\d{1,2})/(5|10|100)"
        r"(?= (?:stars?|points?|rating|score|on|from|and|or|but|in|for|by|with|is)\b|[.,;:!?)\]](?!\d)|\s*$)",
        r"\1 out of \2",
    ),
    (r"(?<=√)(\d{1,3})/(\d{1,3})(?![\w/:]|[.,]\d)", r"\1 over \2"),
    (rf"(?<![\w./,:$€£])(\d+ )?(\d{{1,3}})/({_DENOMINATORS})(?![\w/:]|[.,]\d)", _slashed),
    (r"(?<=\d)(ˢᵗ|ⁿᵈ|ʳᵈ|ᵗʰ)", lambda m: {"ˢ": "st", "ⁿ": "nd", "ʳ": "rd", "ᵗ": "th"}[m[1][0]]),
    (r"(?<![\w.,/])(\d{1,3})/(\d{1,3})(?:nd|rd|th)s\b", lambda m: fraction(int(m[1]), max(2, int(m[2])))),
    (r"(?<![\w.,])(\d{1,3})(?:nd|rd|th)s\b", lambda m: ordinal(int(m[1])) + "s"),
    (
        r"(?<![\w.,])(\d{1,3}(?:,\d{3})*|\d{1,9})(?:st|nd|rd|th)\b",
        lambda m: ordinal(int(m[1].replace(",", ""))),
    ),
    (r"(?<![\w.,])(\d+\.\d+|\d{2,3}(?=K(?:\+|[.,;:)]|$| (?!gold)[a-z])))K(?![\w-])", r"\1 thousand"),
    (rf"(?<![\w.,])({NUMBER})(k|M|bn|B)(?![\w-])", lambda m: f"{m[1]} {_SCALES[m[2]]}"),
    (
        r"(?<![\w.,])(\d+(?:\.\d+)?)[eE]([-−+]?)(\d{1,3})(?!\w)",
        lambda m: (
            f"{m[1]} times 10 to the power of {'minus ' if m[2] in ('-', '−') and m[2] else ''}{int(m[3])}"
        ),
    ),
    (r"(?<![\w.])(\d{3,4})\s?[x×]\s?(\d{3,4})(?![\w.])", r"\1 by \2"),  # pixels
    # The frets of a chord: x32010.
    (r"(?<!\w)(?=x{1,2}\d)[x\d]{6}(?!\w)", lambda m: " ".join(m[0])),
    (r"(?<=\d)x(?=10(?:\^|[⁰¹²³⁴-⁹⁻]))", " times "),
    (r"\b(sin|cos|tan|log|ln|exp) ?(\d+)x\b", r"\1 \2 x"),
    (r"(?<=\d)[x×](?=\d)", lambda m: " by " if m[0] == "x" else " times "),
    (r"(?<=\d)\s[x×]\s(?=\d)", " times "),
    (r"(?<=\d)\s?[x×](?!\w|\s*[-−+=/^*<>≤≥)]|$)|(?<=\d)×$", " times"),
    (r"(?<=\d)x$", _times),
    (r"(?<![\w])[x×](?=\d)", "times "),
    (r"(?<![\w.,/)])[-−](?=\.?\d)", "minus "),
    (r"(?<![\w.])\.(?=\d)", "0."),
)


def say_phone_numbers(text: str) -> str:
    return apply(_PHONES, text)


def say_ranges(text: str) -> str:
    return apply(_RANGES, text)


def say(text: str) -> str:
    return apply(_RULES, text)


_LANGUAGES = {
    "eng": "en", "deu": "de", "fra": "fr", "spa": "es", "ita": "it", "por": "pt", "nld": "nl", "pol": "pl",
              "rus": "ru", "ukr": "uk", "tur": "tr", "swe": "sv", "dan": "da", "nor": "no", "fin": "fi", "ces": "cz",
              "ron": "ro", "hun": "hu", "vie": "vi", "ind": "id", "ara": "ar", "heb": "he", "kor": "ko", "jpn": "ja",
}  # fmt: skip
_ANY = re.compile(
    r"(?P<sign>(?<![\w-])[-−])?(?P<whole>\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<part>\d+))?(?P<percent>%)?"
)
_LONGEST_NUMBER = 15  # longer ones are read digit by digit


def in_words(text: str, language: str = "eng") -> str:
    """Spell out every number, for voices trained only on letters. language: ISO 639-3.

    English is American, without "and". Numbers stay digits in languages that num2words lacks.
    """
    code = _LANGUAGES.get(language)
    if code is None:
        return text
    return _ANY.sub(lambda number: _in_words(number, code), text)


def _in_words(number: re.Match[str], code: str) -> str:
    whole, part = number["whole"].replace(",", ""), number["part"]
    by_digit = len(whole) > _LONGEST_NUMBER or (whole[0] == "0" and len(whole) > 1)
    said = [_digits(whole, code) if by_digit else _cardinal(int(whole), code)]
    if number["sign"]:
        said.insert(0, "minus")
    if part:
        said += ["point" if code == "en" else "", _digits(part, code)]
    if number["percent"] and code == "en":
        said.append("percent")
    before = number.string[number.start() - 1 : number.start()]
    after = number.string[number.end() : number.end() + 1]
    return (" " if before.isalpha() else "") + " ".join(filter(None, said)) + (" " if after.isalpha() else "")


def _digits(number: str, code: str) -> str:
    return " ".join(_cardinal(int(digit), code) for digit in number)


def _cardinal(number: int, code: str) -> str:
    words: str = num2words(number, lang=code)
    if code == "en":
        words = re.sub(r"\band |,", "", words)
    return words.replace("-", " ")
