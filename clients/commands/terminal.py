"""An answer on a terminal, while it is written."""

from __future__ import annotations

import sys

from rich.console import Console

from ..client import Answer
from .interruptible import deltas

_notes = Console(stderr=True, highlight=False, soft_wrap=True)


def stream(answer: Answer, waiting_for: str) -> None:
    """Print the text of `answer` to stdout as it comes. Raises AudioFlamingoError; the line is ended anyway.

    Until the first token a terminal shows `waiting_for`; a pipe gets the text and nothing else.
    """
    arriving = deltas(answer)
    try:
        with _notes.status(waiting_for):
            first = next(arriving)
        sys.stdout.write(first.text)
        sys.stdout.flush()
        for delta in arriving:
            sys.stdout.write(delta.text)
            sys.stdout.flush()
    finally:
        if answer.text_so_far:
            print(flush=True)
    if answer.finish_reason == "length":
        note(f"cut after {answer.token_count} tokens; --max-tokens allows more")


def note(text: str) -> None:
    """A remark to the human, on stderr."""
    _notes.print(text, style="dim", markup=False)


def complain(text: str) -> None:
    """An error, on stderr."""
    _notes.print(text, style="red", markup=False)
