"""Tab completion in a chat: the commands, and the files after /add."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path


def completions(line: str, commands: Sequence[str]) -> list[str]:
    """The lines that begin with `line`; a folder ends with "/", blanks in a path are escaped."""
    command, blank, rest = line.partition(" ")
    if not blank:
        return [f"{name} " for name in commands if line.startswith("/") and name.startswith(line)]
    if command != "/add":
        return []
    before, typed = _last_word(rest)
    return [f"{command} {before}{path}" for path in _paths(typed)]


def enable(commands: Sequence[str]) -> None:
    """Give `input()` a history, editing and completion, where Python has readline."""
    with contextlib.suppress(ImportError):
        import readline

        def complete(line: str, place: int) -> str | None:
            found = completions(line, commands)
            return found[place] if place < len(found) else None

        readline.set_completer_delims("\n")  # the whole line is completed
        readline.set_completer(complete)
        libedit = "libedit" in (readline.__doc__ or "")  # macOS
        readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")


def _last_word(words: str) -> tuple[str, str]:
    """The text before the word that is typed, and that word without its escapes and its opening quote."""
    start, quote, place = 0, "", 0
    while place < len(words):
        character = words[place]
        if character == "\\" and not quote:
            place += 1
        elif character == quote:
            quote = ""
        elif character in "'\"" and not quote:
            quote = character
        elif character == " " and not quote:
            start = place + 1
        place += 1
    word = words[start:]
    return words[:start], word.lstrip("'\"") if quote else word.replace("\\", "")


def _paths(typed: str) -> list[str]:
    folder, slash, beginning = typed.rpartition("/")
    try:
        entries = sorted(os.scandir(Path(folder + slash).expanduser()), key=lambda entry: entry.name)
    except OSError:
        return []
    shown = [entry for entry in entries if entry.name.startswith(beginning)]
    if not beginning.startswith("."):
        shown = [entry for entry in shown if not entry.name.startswith(".")]
    return [_escaped(folder + slash + entry.name) + ("/" if entry.is_dir() else " ") for entry in shown]


def _escaped(path: str) -> str:
    return "".join(f"\\{character}" if character in " '\"\\" else character for character in path)
