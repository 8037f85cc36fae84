"""Where an answer ends: at its end token, which is not part of it, or after a stop word, which is."""

from __future__ import annotations

from collections.abc import Sequence


class StopWords:
    """The end of one answer."""

    def __init__(self, end_id: int | None, words: Sequence[tuple[int, ...]]):
        self._end_id = end_id
        self._words = words
        self._generated: list[int] = []

    def accept(self, ids: Sequence[int]) -> tuple[list[int], bool]:
        """Of the next tokens those that belong to the answer, and whether it has ended."""
        kept: list[int] = []
        for token in ids:
            if token == self._end_id:
                return kept, True
            kept.append(token)
            self._generated.append(token)
            if any(tuple(self._generated[-len(word) :]) == word for word in self._words):
                return kept, True
        return kept, False
