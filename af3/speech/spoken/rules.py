"""Lists of rules, each a pattern and its spoken form; shared by the modules of spoken English."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Say = str | Callable[[re.Match[str]], str]
Rule = tuple[re.Pattern[str], Say]

# 1,234.5; `markup` has already replaced thin spaces.
NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"


def rules(*pairs: tuple[str, Say]) -> tuple[Rule, ...]:
    return tuple((re.compile(pattern), say) for pattern, say in pairs)


def apply(given: Sequence[Rule], text: str) -> str:
    """Apply every rule once, in order; later rules see the results of earlier ones."""
    for pattern, say in given:
        text = pattern.sub(say, text)
    return text
