"""An answer's text, as it comes → what the model thought and what it answers.

The reasoning models of the family write `<think>…</think>` in plain letters before the answer, and have no token for
either mark.
"""

from __future__ import annotations

from af3.outputs.detokenizer import overlap

OPENS, CLOSES = "<think>", "</think>"


class ReasoningSplit:
    """Tells reasoning and answer of one text apart, whatever the pieces in which it comes.

    The marks belong to neither, nor does white space beside them: what could be a mark, or blanks before one, is held
    back until it is known. A text without marks comes out unchanged. Reasoning that is never closed stays reasoning.
    """

    def __init__(self) -> None:
        self._thinking = False
        self._fresh = True  # nothing but white space since the beginning or the last mark
        self._marked = False
        self._held = ""

    def push(self, text: str) -> tuple[str, str]:
        """The reasoning and the answer that `text` adds, each possibly empty."""
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
        """What was held back: no mark after all."""
        rest, self._held = self._trimmed(self._held), ""
        return (rest, "") if self._thinking else ("", rest)

    @property
    def _next_mark(self) -> str:
        return CLOSES if self._thinking else OPENS

    def _trimmed(self, text: str) -> str:
        """Without the white space behind a mark."""
        return text.lstrip() if self._fresh and self._marked else text

    def _kept(self, text: str) -> int:
        """Length of the end of `text` that may be the beginning of a mark, or white space before one."""
        keep = overlap(text, self._next_mark)
        rest = text[: len(text) - keep]
        may_be_dropped = self._thinking or (self._fresh and not rest.strip())
        return keep + len(rest) - len(rest.rstrip()) if may_be_dropped else keep
