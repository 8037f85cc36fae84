"""Detects the end of an answer: the end token, which is not part of it, or a stop word, which is."""

from __future__ import annotations

from collections.abc import Sequence


class StopWords:
    """Detects the end of one answer."""

    def __init__(self, end_id: int | None, words: Sequence[tuple[int, ...]]):
        self._end_id = end_id
        self._words = words
        self._generated: list[int] = []

    def accept(self, ids: Sequence[int]) -> tuple[list[int], bool]:
        """Return those of the next tokens that belong to the answer, and whether it has ended."""
        kept: list[int] = []
        for token in ids:
            if token == self._end_id:
                return kept, True
            kept.append(token)
            self._generated.append(token)
            if any(tuple(self._generated[-len(word) :]) == word for word in self._words):
                return kept, True
        return kept, False
