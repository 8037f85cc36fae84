"""Turns streamed token ids into text deltas that are valid UTF-8 and end before a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from af3.tokenizer import Tokenizer


class Detokenizer:
    """Decodes the ids of one answer incrementally.

    Holds back the bytes of an incomplete character, and text that may begin a stop string. The joined deltas equal
    `Tokenizer.decode` of all ids, cut before the first complete stop string; so the answer does not depend on how many
    tokens come at a time.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()):
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False

    def push(self, ids: Sequence[int]) -> str:
        """Return the text that `ids` add, possibly empty; always empty after a stop string."""
        return self._release(self._decoder.decode(b"".join(map(self._tokenizer.token_bytes, ids))))

    def finish(self) -> str:
        """Return the held-back rest; an incomplete character becomes U+FFFD."""
        tail = self._release(self._decoder.decode(b"", final=True))
        if self.stopped:
            return tail
        held, self._held = self._held, ""
        return tail + held

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        met = [(text.find(stop) + len(stop), text.find(stop)) for stop in self._stop if stop in text]
        if met:
            self.stopped, self._held = True, ""
            return text[: min(met)[1]]
        keep = max((overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of `text` that is a proper prefix of `stop`."""
    return next(
        (size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0
    )
