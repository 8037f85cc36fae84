"""What the modules of spoken English share: a list of rules, each a pattern and what is said for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Say = str | Callable[[re.Match[str]], str]
Rule = tuple[re.Pattern[str], Say]

# 1,234.5 but not the end of a longer number; thin spaces were made plain by `markup`.
NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"


def rules(*pairs: tuple[str, Say]) -> tuple[Rule, ...]:
    return tuple((re.compile(pattern), say) for pattern, say in pairs)


def apply(given: Sequence[Rule], text: str) -> str:
    """Every rule once, in order; a later rule sees what the ones before it have said."""
    for pattern, say in given:
        text = pattern.sub(say, text)
    return text
