"""Assigns sequences to rows of the KV cache."""

from __future__ import annotations

from af3.llm.decoder import Decoder
from af3.llm.sequence import ActiveSequence


class Rows:
    """Sequences by row without gaps, because a decode step runs over rows 0 … n-1:

        row  0   1   …  n-1 │ n  …  m-1 │ m … rows-1
             decoding       │ prefill   │ free

    When row r is freed, row n-1 moves into it and row m-1 into n-1:

        A B C D │ p q      B ends:           A D C │ q p      (D and q were copied)
    When the prompt in row r has been read, rows n and r change places:

        A B │ p q          q has been read:  A B q │ p
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
    def reading(self) -> list[ActiveSequence]:
        """The sequences in prefill, in rows n … m-1."""
        return [sequence for sequence in self._sequences if not sequence.decoding]

    def row_of(self, sequence: ActiveSequence) -> int:
        return self._sequences.index(sequence)

    def add(self, sequence: ActiveSequence) -> None:
        """Give a sequence in prefill the next row."""
        self._sequences.append(sequence)

    def begin(self, sequence: ActiveSequence) -> None:
        """Its prompt has been read: move it to the rows that decode."""
        row, first = self.row_of(sequence), len(self.decoding) - 1
        if row == first:
            return
        other = self._sequences[first]
        self._decoder.swap(row, first, sequence.length, other.length)
        self._sequences[row], self._sequences[first] = other, sequence

    def release(self, sequence: ActiveSequence) -> None:
        """Free a sequence's row. The last decoding sequence moves into it, and the last in prefill into that row."""
        free, last = self.row_of(sequence), len(self._sequences) - 1
        last_decoding = len(self.decoding) - 1
        if free < last_decoding:
            self._move(last_decoding, free)
            free = last_decoding
        if free < last:
            self._move(last, free)
        self._sequences.pop()
        self._decoder.free(last)

    def clear(self) -> list[ActiveSequence]:
        """Free every row."""
        sequences, self._sequences = self._sequences, []
        for row in range(len(sequences)):
            self._decoder.free(row)
        return sequences

    def _move(self, source: int, target: int) -> None:
        self._decoder.move(source, target, self._sequences[source].length)
        self._sequences[target] = self._sequences[source]
