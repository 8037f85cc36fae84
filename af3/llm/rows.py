"""Assigns sequences to rows of the KV cache."""

from __future__ import annotations

from af3.llm.decoder import Decoder
from af3.llm.sequence import ActiveSequence


class Rows:
    """Sequences by row without gaps, because a decode step runs over rows 0 … n-1:

        row  0   1   …  n-1 │ n                      │ n+1 … rows-1
             decoding       │ prefill, or            │ free
                            │ free                   │

    When row r is freed, row n-1 moves into it and row n into n-1:

        A B C D │ p      B ends:      A D C │ p      (D and p were copied)
    """

    def __init__(self, decoder: Decoder):
        self._decoder = decoder
        self._sequences: list[ActiveSequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def full(self) -> bool:
        return len(self._sequences) == self._decoder.rows

    @property
    def all(self) -> list[ActiveSequence]:
        return list(self._sequences)

    @property
    def decoding(self) -> list[ActiveSequence]:
        """The decoding sequences in rows 0 … n-1, in order."""
        return [sequence for sequence in self._sequences if sequence.decoding]

    @property
    def reading(self) -> ActiveSequence | None:
        """The sequence in prefill, which holds the last row."""
        last = self._sequences[-1] if self._sequences else None
        return None if last is None or last.decoding else last

    def row_of(self, sequence: ActiveSequence) -> int:
        return self._sequences.index(sequence)

    def add(self, sequence: ActiveSequence) -> None:
        """Give a sequence the next row. Only one sequence may be in prefill."""
        assert self.reading is None, "one prompt is read at a time"
        self._sequences.append(sequence)

    def release(self, sequence: ActiveSequence) -> None:
        """Free a sequence's row. The last decoding sequence moves into it, and the one in prefill into that row."""
        row = self.row_of(sequence)
        last = len(self._sequences) - 1
        last_decoding = last if self._sequences[last].decoding else last - 1
        if row < last_decoding:
            self._move(last_decoding, row)
        if row < last and last_decoding < last:
            self._move(last, last_decoding)
        self._sequences.pop()

    def clear(self) -> list[ActiveSequence]:
        """Free every row."""
        sequences, self._sequences = self._sequences, []
        return sequences

    def _move(self, source: int, target: int) -> None:
        self._decoder.move(source, target, self._sequences[source].length)
        self._sequences[target] = self._sequences[source]
