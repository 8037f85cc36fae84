"""Token ids as they come → text deltas that are always valid UTF-8 and never reach past a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from af3.tokenizer import Tokenizer


class Detokenizer:
    """Turns the ids of one answer into text, piece by piece.

    A letter may be spread over several tokens; its bytes are held back until it is whole. Text that could be
    the beginning of a stop string is held back until it is known not to be. The deltas joined equal
    `Tokenizer.decode` of all ids, cut before the stop string that is complete first, so that the answer does not
    depend on how many tokens come at a time.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()):
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False

    def push(self, ids: Sequence[int]) -> str:
        """The text that `ids` add, possibly none. After a stop string was met: always none."""
        return self._release(self._decoder.decode(b"".join(map(self._tokenizer.token_bytes, ids))))

    def finish(self) -> str:
        """The rest that was held back; an unfinished letter becomes U+FFFD."""
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
    """Length of the longest end of `text` that is a beginning of `stop` (but not all of it)."""
    return next(
        (size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0
    )
