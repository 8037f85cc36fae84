"""Converts LaTeX formulas to Unicode, which `maths` and `units` then spell out."""

from __future__ import annotations

import re

from af3.speech.spoken.rules import Rule, rules

# Pandoc's rule for `$`: no space after the opening sign, none before the closing sign, and no digit after it. So
# "$5 and $6" are two prices.
SPAN = re.compile(
    r"\$\$(?P<display>[^$]{1,400})\$\$"
    r"|\\\[(?P<block>.{1,400}?)\\\]"
    r"|\\\((?P<inline>.{1,400}?)\\\)"
    r"|(?<![\\$\w])\$(?=[^\s$])(?P<dollar>[^$\n]{0,200}[^\s$\\])\$(?!\d)",
    re.DOTALL,
)
_BARE = re.compile(
    r"\\(?:[dt]?frac|sqrt|times|text|mathrm|approx|cdot|pm|leq?|geq?|infty|alpha|beta|pi)(?![a-zA-Z])|[\w)∑∏∫][_^]\{[^{}\n]{1,40}\}"
)

_TABLE = """
times ×  cdot ·  div ÷  pm ±  mp ∓  approx ≈  sim ∼  neq ≠  ne ≠  le ≤  leq ≤  ge ≥  geq ≥  ll ≪
gg ≫  equiv ≡  propto ∝  infty ∞  to →  rightarrow →  longrightarrow →  leftarrow ←  Rightarrow ⇒
implies ⇒  iff ⇔  sum ∑  prod ∏  int ∫  partial ∂  nabla ∇  forall ∀  exists ∃  cup ∪  cap ∩
subset ⊂  emptyset ∅  degree °  circ °  sharp ♯  flat ♭  natural ♮  prime ′  ell l  hbar ℏ  lt <
gt >  ldots …  dots …  cdots …  mid |  parallel ∥  perp ⊥  angle ∠  therefore ∴  alpha α  beta β
gamma γ  delta δ  epsilon ε  varepsilon ε  zeta ζ  eta η  theta θ  iota ι  kappa κ  mu μ  nu ν
xi ξ  pi π  rho ρ  sigma σ  tau τ  upsilon υ  phi φ  varphi φ  chi χ  psi ψ  omega ω  Gamma Γ
Delta Δ  Theta Θ  Lambda Λ  Xi Ξ  Pi Π  Sigma Σ  Upsilon Υ  Phi Φ  Psi Ψ  Omega Ω  in ∈  lambda λ
""".split()
_NOTHING = "quad qquad left right big Big bigl bigr displaystyle limits nolimits".split()  # spaces and sizes
_SIGNS = dict(zip(_TABLE[::2], _TABLE[1::2], strict=True)) | dict.fromkeys(_NOTHING, " ")
_PLAIN = (
    r"\\(?:text|textbf|textit|textrm|math[a-z]+|operatorname|mbox|boxed|bar|hat|vec|tilde|dot|overline|underline)"
    r"\*?"
)
_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_SUPERSCRIPT = str.maketrans("0123456789+-−n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻ⁿ")
_ACCENTS = {
    "bar": "\u0304",
    "overline": "\u0304",
    "hat": "\u0302",
    "tilde": "\u0303",
    "dot": "\u0307",
    "vec": "\u20d7",
}
_ACCENT = rf"\\({'|'.join(_ACCENTS)})"
# Innermost braces first; each round resolves one level, and ten are enough.
_ROUNDS = 10
_NESTED: tuple[Rule, ...] = rules(
    *(
        (
            _ACCENT + r"\s*\{\s*([a-zA-Z])\s*\}|" + _ACCENT + r"\s+([a-zA-Z])(?![a-zA-Z])",
            lambda m: _accented(m),
        ),
        (_PLAIN + r"\s*\{([^{}]*)\}", r"\1"),
        (r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", lambda m: f" {_term(m[1])}⁄{_term(m[2])} "),
        (r"\\[dt]?frac\s*(\d)\s*(\d)", r" \1⁄\2 "),
        (r"\\sqrt\s*\[3\]\s*\{([^{}]*)\}", r"∛\1"),
        (r"\\sqrt\s*\{([^{}]*)\}", r"√\1"),
        (r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?", "°"),
        (r"\\(?:begin|end)\s*\{[^{}]*\}", " "),
        (r"_\s*\{([^{}]*)\}", r"_\1"),
    )
)
_POWER = re.compile(r"\^\s*(?:\{\s*([^{}]*?)\s*\}|(\\[a-zA-Z]+|[^\s{}\\]))")
_INDEX = re.compile(r"_\s*(?:\{(\d{1,4})\}|(\d))")
_LIMITS = re.compile(
    r"\\?(sum|prod|int|[∑∏∫])\s*_\s*\{?([^{}^]{1,20}?)\}?\s*\^\s*(?:\{([^{}]{1,20})\}|(\\[a-zA-Z]+|\w))"
)
_LIMIT = re.compile(r"\\lim\s*_\s*\{([^{}]{1,40})\}")
# In an equation, L behind a number is a length and not litres.
_VARIABLE = re.compile(r"(?<=\d)(?=[mgshlLVAWNJTKCF](?![a-zA-Z]))")
_TO = r"\s*(?:\\(?:to|rightarrow)(?![a-zA-Z])|→)\s*"
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_MICRO = re.compile(r"(?<=[\d\s])\\mu\s*(?=(?:\\(?:text|mathrm)\s*\{)?(?:[smgVAWFHJNTL]|Pa|Hz)\b)")
_BESIDE_ITS_INDEX = re.compile(r" +(?=[₀-₉⁰-⁹¹²³_^])")
_MAGNITUDE = re.compile(r"(?:\\left\s?)?(?:\||\\lvert\s)([^|]{1,20}?)(?:\\right\s?)?(?:\||\\rvert)")
_MINUS = re.compile(r"(?<=[\w)}\]\s])-(?=\s?[\w({\[\\])")
_FACTORIAL = re.compile(r"(?<=[\w)])!(?!=)")


def replace_spans(text: str, keep: list[str]) -> str:
    """Replace each formula by a private-use character; appends the Unicode formulas to `keep`, in order."""

    def shelve(span: re.Match[str]) -> str:
        formula = next(group for group in span.groups() if group is not None)
        if "\\text" not in formula:
            formula = _MINUS.sub("−", formula)
            if "\\math" not in formula and re.search(r"[=^_≈]|\\(?:frac|approx)", formula):
                formula = _VARIABLE.sub("·", formula)
        formula = _MAGNITUDE.sub(r" the absolute value of \1 ", formula)
        keep.append(to_unicode(_FACTORIAL.sub(" factorial ", formula)))
        return chr(0xE000 + len(keep) - 1)

    text = SPAN.sub(shelve, text)
    return to_unicode(text) if _BARE.search(text) else text


def to_unicode(formula: str) -> str:
    r"""`E = mc^{2}` → `E = mc²`, `\frac{1}{2}` → `1⁄2`. Unknown commands become their name."""
    text = re.sub(r"\\[,;:! ]|\\(?=\n)|(?<!\\)[~&]", " ", formula.replace("{,}", ",")).replace("\\\\", ", ")
    text = re.sub(r"\\([%$#_{}&])", r"\1", text) if "\\" in text else text
    text = _LIMITS.sub(_between, text)
    text = _LIMIT.sub(lambda m: f" the limit as {re.sub(_TO, ' goes to ', m[1])} of ", text)
    text = _MICRO.sub("µ", text)
    text = _INDEX.sub(lambda index: as_index(index[1] or index[2]), text)
    for _ in range(_ROUNDS):
        before = text
        for pattern, replacement in _NESTED:
            text = pattern.sub(replacement, text)
        text = _POWER.sub(_power, text)
        if text == before:
            break
    text = _COMMAND.sub(lambda command: _SIGNS.get(command[1], f" {command[1]} "), text)
    return _BESIDE_ITS_INDEX.sub("", re.sub(r"[{}\\]", " ", text))


def _between(found: re.Match[str]) -> str:
    """The limits of a sum, a product or an integral."""
    low, high = found[2].strip(), (found[3] or found[4]).strip()
    if found[1] in ("int", "∫"):
        return f" the integral from {low} to {high} of "
    return f" {_SIGNS.get(found[1], found[1])} {low} → {high}, "


def _accented(found: re.Match[str]) -> str:
    """A letter with a sign above it, as Unicode writes it: \\bar{x} → x̄."""
    return (found[2] or found[4]) + _ACCENTS[found[1] or found[3]]


def _term(text: str) -> str:
    """What stands over or under a line: in brackets where it is a sum, or x + 1 over 2 would be x and a half."""
    return f"({text})" if re.search(r".[+−±=<>·-]", text) else text


def as_index(digits: str) -> str:
    return digits.translate(_SUBSCRIPT)


def _power(power: re.Match[str]) -> str:
    return as_power(power[1] if power[1] is not None else power[2])


def as_power(exponent: str) -> str:
    if exponent in ("st", "nd", "rd", "th"):
        return exponent
    if exponent and all(character in "0123456789+-−n" for character in exponent):
        return exponent.translate(_SUPERSCRIPT)
    return f"^{exponent}" if len(exponent) <= 1 or exponent.startswith("\\") else f"^({exponent})"
