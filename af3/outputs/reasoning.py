"""Separates a streamed text into the model's reasoning and its answer.

Reasoning models of the family write `<think>…</think>` before the answer, as plain letters, not as special tokens.
"""

from __future__ import annotations

from af3.outputs.detokenizer import overlap

OPENS, CLOSES = "<think>", "</think>"


class ReasoningSplit:
    """Splits one text, however it is cut into pieces.

    Marks and the white space around them belong to neither part. Text that may begin a mark, or white space before
    one, is held back. A text without marks is returned unchanged. Reasoning without a closing mark stays reasoning.
    """

    def __init__(self) -> None:
        self._thinking = False
        self._fresh = True  # only white space so far, or since the last mark
        self._marked = False
        self._held = ""

    def push(self, text: str) -> tuple[str, str]:
        """Return the reasoning and the answer that `text` adds, each possibly empty."""
        text = self._held + text
        thought, answered = "", ""
        while (place := text.find(self._next_mark)) >= 0:
            before, text = text[:place], text[place + len(self._next_mark) :]
            if self._thinking:
                thought += self._trimmed(before).rstrip()
            elif before.strip() or not self._fresh:
                answered += self._trimmed(before)
            self._thinking, self._fresh, self._marked = not self._thinking, True, True
        keep = self._kept(text)
        self._held, text = text[len(text) - keep :], text[: len(text) - keep]
        text = self._trimmed(text)
        self._fresh = self._fresh and not text
        return (thought + text, answered) if self._thinking else (thought, answered + text)

    def finish(self) -> tuple[str, str]:
        """Return the held-back rest, which turned out not to be a mark."""
        rest, self._held = self._trimmed(self._held), ""
        return (rest, "") if self._thinking else ("", rest)

    @property
    def _next_mark(self) -> str:
        return CLOSES if self._thinking else OPENS

    def _trimmed(self, text: str) -> str:
        """Remove white space after a mark."""
        return text.lstrip() if self._fresh and self._marked else text

    def _kept(self, text: str) -> int:
        """Length of the suffix of `text` that may begin a mark, or is white space before one."""
        keep = overlap(text, self._next_mark)
        rest = text[: len(text) - keep]
        may_be_dropped = self._thinking or (self._fresh and not rest.strip())
        return keep + len(rest) - len(rest.rstrip()) if may_be_dropped else keep
