"""Spells out signs, powers, indices, chemical formulas and Greek letters."""

from __future__ import annotations

import re
import unicodedata

from af3.speech.spoken.dates import ordinal
from af3.speech.spoken.rules import apply, rules

_SIGNS = {
    "±": "plus or minus", "∓": "minus or plus", "×": "times", "÷": "divided by", "·": "times", "⋅": "times",
    "∙": "times", "−": "minus", "+": "plus", "=": "equals", "≠": "is not equal to", "≤": "less than or equal to",
    "≥": "greater than or equal to", "<": "less than", ">": "greater than", "≪": "much less than",
    "≫": "much greater than", "≡": "is identical to", "∝": "is proportional to", "∞": "infinity", "→": "to",
    "←": "from", "↔": "and", "⇒": "implies", "⇔": "if and only if", "↑": "up", "↓": "down", "∑": "the sum of",
    "∏": "the product of", "∫": "the integral of", "∂": "partial", "∇": "nabla", "∈": "in", "∉": "not in",
    "∪": "union", "∩": "intersection", "⊂": "subset of", "⊆": "subset of", "∀": "for all", "∃": "there is",
    "∅": "the empty set", "∠": "angle", "⊥": "perpendicular to", "∥": "parallel to", "∴": "therefore",
    "∵": "because", "√": "square root of", "∛": "cube root of", "∜": "fourth root of", "ℏ": "h bar", "&": "and",
    "@": "at", "§": "section", "¬": "not", "∧": "and", "∨": "or", "≅": "is approximately equal to", "↦": "maps to",
    "⇌": "in equilibrium with", "⇄": "in equilibrium with", "⊕": "circled plus", "⊗": "circled times",
    "∘": "composed with", "∮": "the contour integral of", "∬": "the double integral of", "⟶": "to", "⟹": "implies",
    "⊃": "superset of", "⊇": "superset of", "∖": "minus", "≃": "is approximately equal to", "≜": "is defined as",
    "≲": "less than about", "≳": "greater than about", "☉": "sun", "ᵀ": "transpose",
}  # fmt: skip
# Not ʰ, ʲ and ʷ, which write sounds.
_POWERS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱˣᵃᵇᶜᵈᵉᶠᵍᵏᵐᵒᵖʳˢᵗᵘᵛʸᶻ"
_PLAIN_POWERS = str.maketrans(_POWERS, "0123456789+-nixabcdefgkmoprstuvyz")
_INDICES = "₀₁₂₃₄₅₆₇₈₉₊₋ₐₑₒₓₙₘₖᵢⱼₕₗₚₛₜ"
_PLAIN_INDICES = str.maketrans(_INDICES, "0123456789+-aeoxnmkijhlpst")
_FUNCTIONS = {
    "sin": "sine", "cos": "cosine", "tan": "tangent", "log": "log", "ln": "natural log", "exp": "exp", "lim": "limit",
}  # fmt: skip
_FORMULAS = r"CO2|H2O|O2|N2|NO2|SO2|CH4|NH3|H2SO4|H2O2|NaCl|N2O|O3|C6H12O6|HCO3|CaCO3|NaOH|HCl"
_ELEMENT = r"(?:H|He|Li|Be|B|C|N|O|F|Ne|Na|Mg|Al|Si|P|S|Cl|Ar|K|Ca|Mn|Fe|Co|Ni|Cu|Zn|Br|Ag|I|Ba|Au|Hg|Pb|U)"
_GREEK = {
    letter: unicodedata.name(letter).split()[-1].lower().replace("lamda", "lambda").replace("final", "")
    for letter in "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩαβγδεζηθικλμνξοπρςστυφχψω"
} | {"µ": "mu", "ϕ": "phi", "ϵ": "epsilon", "ϑ": "theta", "∆": "delta"}
_LETTERS = "".join(_GREEK)


def power(exponent: str) -> str:
    """Spell out an exponent: "2" → squared, "-3" → to the power of minus 3."""
    text = exponent.translate(_PLAIN_POWERS).strip("() ").replace("−", "-")
    if text in ("2", "3"):
        return " squared" if text == "2" else " cubed"
    text = re.sub(r"^-", "minus ", re.sub(r"^\+", "plus ", text))
    return f" to the power of {text}"


def _superscript(found: re.Match[str]) -> str:
    base, exponent = found[1], found[2]
    if exponent in "⁺⁻":
        return f"{' '.join(base)} {'plus' if exponent == '⁺' else 'minus'} "  # an ion
    if exponent in ("²⁺", "³⁺", "²⁻", "³⁻"):
        return f"{' '.join(base)} {exponent[0].translate(_PLAIN_POWERS)} {'plus' if exponent[1] == '⁺' else 'minus'} "
    if len(base) > 3 and base.isalpha():
        return f"{base} "  # the number of a footnote
    if base.isalpha() and base.isascii() and base not in _FUNCTIONS:
        base = " ".join(base)
    base = _FUNCTIONS.get(base, base)
    return f"{base}{power(exponent)} "


def _substance(formula: str) -> str:
    """H₂O → H 2 O."""
    return (
        " " + " ".join(re.findall(r"\d+|[A-Za-z]", formula.replace(")", " ").translate(_PLAIN_INDICES))) + " "
    )


def _charge(found: re.Match[str]) -> str:
    """Spell out the charge of an ion such as SO₄²⁻, whose letters were spelled out before."""
    return f" {found[1].translate(_PLAIN_POWERS)} {'plus' if found[2] == '⁺' else 'minus'} "


def _index(found: re.Match[str]) -> str:
    base, index = found[1], found[2].translate(_PLAIN_INDICES)
    if base == "log":
        return f"log base {index} "
    return f"{base} sub {index} "


def _integral(found: re.Match[str]) -> str:
    low, high = found[1].translate(_PLAIN_INDICES), found[2].translate(_PLAIN_POWERS)
    return f"the integral from {low} to {high} of "


def _over(found: re.Match[str]) -> str:
    """∑ᵢ₌₁ⁿ → the sum from i = 1 to n of."""
    name = "product" if found[1] == "∏" else "sum"
    low, high = found[2].replace("₌", "=").translate(_PLAIN_INDICES), found[3].translate(_PLAIN_POWERS)
    return f"the {name} {'from' if high else 'over'} {low}{f' to {high}' if high else ''} of "


def _greek(found: re.Match[str]) -> str:
    before, after = found.string[: found.start()][-1:], found.string[found.end() :][:1]
    said = " ".join(_GREEK[letter] for letter in found[0])
    return (
        (" " if before.isalnum() else "")
        + said
        + (" " if after.isalnum() or after in _POWERS + _INDICES else "")
    )


_ABOVE = {"\u0304": "bar", "\u0302": "hat", "\u0303": "tilde", "\u0307": "dot", "\u20d7": "vector"}
_COMPOSED = "ȳŷẏẋ"  # letters of no language that are variables alone


def _accented(found: re.Match[str]) -> str:
    """x̄² → x bar squared."""
    letter, sign = tuple(unicodedata.normalize("NFD", found[1]))
    return f"{letter} {_ABOVE[sign]}{power(found[2]) if found[2] else ''} "


def _root(found: re.Match[str]) -> str:
    """¹²√ → twelfth root of."""
    return f"{ordinal(int(found[1].translate(_PLAIN_POWERS)))} root of "


def _minus(found: re.Match[str]) -> str:
    return " minus " if re.search(r"[=≈∝<>]|\bequals\b", found.string) else found[0]


_WORD_SIGNS = "".join(sign for sign in _SIGNS if sign not in "+=&@<>")
_RULES = rules(
    (
        rf"(?<![A-Za-z{_LETTERS}])([A-Za-z{_LETTERS}][{''.join(_ABOVE)}]|[{_COMPOSED}])([{_POWERS}]+)?(?![A-Za-z])",
        _accented,
    ),
    (r"(?<![\w)])(?:³\s?√|\b3√)", "∛"),
    (r"(?<![\w)])ⁿ\s?√", "nth root of "),
    (r"(?<![\w)])([⁰¹²³⁴-⁹]{1,2})√", _root),
    (r"\b(f_?s|F_?s|SR|sr|N)/(2|4|8)(?![\w/])", r"\1 over \2"),
    (r"\b(sin|cos|tan)⁻¹", lambda m: f"inverse {_FUNCTIONS[m[1]]} "),
    (r"⌊([^⌊⌋]{1,40})⌋", r"the floor of \1 "),
    (r"⌈([^⌈⌉]{1,40})⌉", r"the ceiling of \1 "),
    (r"‖([^‖]{1,40})‖", r"the norm of (\1)"),
    (r"(?<=[\w)])!(?=\s?[=·×*/)+−])(?!=)", " factorial "),
    (r"Σ(?=\s?[a-zA-Z(])", lambda m: "the sum of " if "=" in m.string else m[0]),
    (r"\b([a-z])['′](?=\s?[=≈<>])", r"\1 prime "),
    (r"&&", "&"),
    (r"(?<![\w.,])[-−]\s?(?=∞)", "minus "),
    (
        r"∂([²³])(\w)/∂(\w)([²³])",
        lambda m: f"partial{power(m[1])} {m[2]} over partial {m[3]}{power(m[4])}",
    ),
    (rf"([∑∏Σ])([{_INDICES}₌]+)([{_POWERS}]*)\s?", _over),
    (r"(?<=[A-Z0-9a-z)])\^(\d?)([+−-])(?![\w(.])", lambda m: f" {m[1]} {'plus' if m[2] == '+' else 'minus'}"),
    (r"\b(Cl|Br|OH|NO3|HCO3)-(?=[\s,.;)]|$)", r"\1 minus"),
    (r"(?<=\w) [~∼] (?=[A-Z][A-Za-z]{0,8}\()", " is distributed as "),
    (r"∂(\w*)/∂(\w+)", r"partial \1 over partial \2"),
    (r"\bd(\w?)/d([a-z])\b", r"d \1 over d \2"),
    (r"\b([a-zA-Z])['′](?=\()", r"\1 prime "),
    (r"(?<!\w)([fgh])\(([a-z])\)", r"\1 of \2"),
    (rf"(?<![A-Za-z/.{_LETTERS}])([A-Za-z{_LETTERS}])/(\d{{1,3}})(?![\w/]|\.\d)", r"\1 over \2"),
    (rf"(?<![\w/.])(\d{{1,3}})/([A-Za-z{_LETTERS}])(?![A-Za-z0-9/])", r"\1 over \2"),
    (rf"(?<![\w/.])([A-Za-z{_LETTERS}][₀-₉]*)/([A-Za-z{_LETTERS}][₀-₉]+)(?![A-Za-z0-9/])", r"\1 over \2"),
    (
        rf"(?<![\w/.])([A-Za-z{_LETTERS}])/([A-Za-z{_LETTERS}])(?![\w/])",
        lambda m: f"{m[1]} over {m[2]}" if re.search("[=∝≈]", m.string) else m[0],
    ),
    (
        r"(?<== )(?!(?:no|on|in|at|is|it|as|or|an|to|of|my|do|so|if|by|pi|mu|nu|xi|up)\b)"
        r"([a-zA-Z])([a-zA-Z])(?=[.,;)²³]|\s[+−-]|\s?$)",
        r"\1 \2",
    ),
    (r"\bd²([a-z])/d([a-z])²", r"d squared \1 over d \2 squared"),
    (rf"∫([{_INDICES}]+)([{_POWERS}]+)\s?", _integral),
    (r"\bR?T₆₀", lambda m: f"{m[0][:-2]} 60"),
    (r"(?<=\w)\s?:=\s?", " is defined as "),
    (rf"\b({_FORMULAS})(?:\b|(?=[⁺⁻]))", lambda m: _substance(m[1])),
    (
        rf"(?<![A-Za-z_₀-₉])(?=\S*[₀-₉])((?:\(?{_ELEMENT}[₀-₉]*\)?[₀-₉]*){{2,}}|[HONFCBPS][₂-₉]|Cl₂|Br₂)(?!(?!e\b)[a-z]|[₀-₉])",
        lambda m: _substance(m[1]),
    ),
    (rf"(?<!\w)([{_POWERS}]+)(?=[A-Z])", lambda m: m[1].translate(_PLAIN_POWERS) + " "),  # ¹⁴C
    (r"(?<![A-Za-z])log(2|10)(?=\W)", r" log base \1 "),
    (r" ([²³]?)([⁺⁻])(?!\w)", _charge),
    (rf"([^\W\d_{_INDICES}]+|\))([{_INDICES}]+)", _index),
    (r"(?<![^\W_])([^\W\d_]+)_(\w+)", lambda m: f"{m[1]} sub {m[2]} "),
    (rf"([^\W_{_POWERS}]+|[)\]°∇∂])([{_POWERS}]+)", _superscript),
    (r"(?<=[\w)\]])\s?\^\s?(\([^()]{1,40}\)|[-−]?\w+)", lambda m: power(m[1]) + " "),
    (rf"(?<![{_LETTERS}])(?:[{_LETTERS}]|[Α-Ω]{{2}})(?![{_LETTERS}])", _greek),
    (
        rf"\b({'|'.join(_FUNCTIONS)})(?=\s?\(|\s(?:[a-z]|alpha|beta|theta|phi|omega|pi|\d)\b)",
        lambda m: _FUNCTIONS[m[1]],
    ),
    (
        r"\b(is|are|was|were|at|of|to|by|with|from|about|around) ≈ ?(?=\S)",
        r"\1 approximately ",
    ),
    (r"(?<=[\w)])\s{0,2}≈ ?(?=\S)", " is approximately "),
    ("≈ ?", " approximately "),
    (r"[~∼～](?=\s?[$€£¥]?\.?\d|\s?(?:minus|plus|version)\b)", " about "),
    (r"(?<=[\w)])\s?∼\s?(?=[\w(])", " is similar to "),
    (r"[~～∼]", " "),
    (r"<->", " and "),
    (r"->|-->|=>", " to "),
    (r"<-(?=\s)", " from "),
    (r"!=", " is not equal to "),
    (r"<=", " less than or equal to "),
    (r">=", " greater than or equal to "),
    (r"==", " equals "),
    (r"(?<=\d) - (?=\d)", " minus "),
    (r"(?<=[a-z\d)] )-(?= [a-z]\b)", "minus"),
    (r"(?<=[\w)\]]) {1,2}- {1,2}(?=[\w(\[])", _minus),
    (r"(?<=[=(×+<>])-(?=[a-z]\b)|(?<=[=(×+<>] )-(?=[a-z]\b)", "minus "),
    (rf"[{re.escape(_WORD_SIGNS)}]", lambda m: f" {_SIGNS[m[0]]} "),
    (r"(?<=\S)@(?=\S+\.\w)", " at "),
    (r"@(?=\w)", " at "),
    (r"\bC\+\+", "C plus plus"),
    (r"[+=&<>@]", lambda m: f" {_SIGNS[m[0]]} "),
    (r"\bd([a-z]) over d([a-z])\b", r"d \1 over d \2"),
    (r"[\^_]", " "),
    (r"(?<=[^\W\d])(\.)(?=[a-z]{2,4}\b)", " dot "),
    (r"(squared|cubed|\bpower of \S{1,8})\s?/\s?(?=\w)", r"\1 over "),
    (r"/ ?(?=(?:square|cube|fourth) root of)", " over "),
    (r"(?<= sub \w )/ ?(?=[\w(])|(?<= sub \w\w )/ ?(?=[\w(])", "over "),
    (r"(?<=[\w)])/(?=\()", lambda m: " over " if "equals" in m.string else m[0]),
    (r"(?<=[\w)]) / (?=[\w(])", lambda m: " over " if "equals" in m.string else m[0]),
    (r"(?<=\w)/(?=\w)", " slash "),
    (
        r"(?<![\w'’-])A(?= {1,2}(?:over|transpose|slash|sub|times|equals|squared|cubed|to the power"
        r"|is (?:approx|prop|not equal)))",
        "A-",  # the letter, see `letter_a`
    ),
    (r"(?<=\w)[′](?=\W|$)", " prime "),
    (r"(?<=\d)(?=(?:x|y|z|n|k|r|t)\b)", " "),
)


def say(text: str) -> str:
    return apply(_RULES, text)
