"""An answer on a terminal, while it is written."""

from __future__ import annotations

import itertools
import sys

from rich.console import Console

from ..client import Answer
from .interruptible import deltas

_notes = Console(stderr=True, highlight=False, soft_wrap=True)


def stream(answer: Answer, waiting_for: str) -> None:
    """Print the text of `answer` to stdout as it comes. Raises AudioFlamingoError; the line is ended anyway.

    Until the first token a terminal shows `waiting_for`, and then what the model thinks before it answers; a pipe gets
    the text and nothing else.
    """
    arriving = deltas(answer)
    try:
        with _notes.status(waiting_for):
            first = next(arriving)
        thinking = False
        for delta in itertools.chain([first], arriving):
            if delta.thinking and _notes.is_terminal:
                _notes.print(delta.thinking, style="dim", markup=False, end="")
                thinking = True
            if delta.text and thinking:
                _notes.print()
                thinking = False
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
