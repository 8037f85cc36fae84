"""Finds the words of a spoken answer that have been heard."""

from __future__ import annotations

from clients.sound.playback import Transcript

CHARACTERS_PER_S = 14.0  # of English at a voice's own speed


class HeardText:
    """Built while speech arrives; seconds are those of the speech."""

    def __init__(self, speed: float):
        """speed: times the voice's own."""
        self._characters_per_s = CHARACTERS_PER_S * speed
        self._transcript = Transcript()
        self._segment_s = 0.0  # where the last segment begins
        self._segment_characters = 0
        self.total_s = 0.0
        self.complete = False  # all speech of the answer has come

    def begins(self, text: str) -> None:
        """From here on `text` is spoken."""
        self._transcript.begins(text, self.total_s)
        self._segment_s, self._segment_characters = self.total_s, len(text)

    def add(self, seconds: float) -> None:
        self.total_s += seconds

    def until(self, end_s: float) -> str:
        """The whole words of the first `end_s` seconds.

        How long the last segment is, of which not all has come, is guessed by its letters.
        """
        total_s = self.total_s
        if not self.complete:
            total_s = max(total_s, self._segment_s + self._segment_characters / self._characters_per_s)
        return self._transcript.heard(end_s, total_s)
