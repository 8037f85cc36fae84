"""Talk about sound files over several turns.

/add FILE takes a clip into the next question, /quit (or Ctrl-D) ends the chat, Ctrl-C stops a running answer.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from clients.client import AudioFlamingo
from clients.commands import flags, terminal
from clients.commands.conversation import Conversation
from clients.errors import AudioFlamingoError
from clients.request import Parameters


class Chat:
    """One chat with one server. A turn that fails or is stopped is forgotten; its clips wait for the next."""

    def __init__(self, flamingo: AudioFlamingo, files: list[Path], timeout_s: float, parameters: Parameters):
        self._flamingo = flamingo
        self._timeout_s = timeout_s
        self._parameters = parameters
        self._conversation = Conversation()
        self._waiting = files
        self.failures = 0

    def add(self, file: Path) -> None:
        if not file.is_file():
            self._fail(f"{file}: no such file")
            return
        self._waiting.append(file)
        terminal.note(f"{file.name} goes with your next question")

    def ask(self, text: str) -> None:
        asked = self._conversation.asked(text, self._waiting)
        try:
            with self._flamingo.chat(
                asked.messages, asked.clips, timeout_s=self._timeout_s, **self._parameters
            ) as answer:
                terminal.stream(answer, f"listening to {len(asked.clips)} clip(s) …")
        except AudioFlamingoError as error:
            self._fail(f"{error}\nthis turn is forgotten")
        except KeyboardInterrupt:
            terminal.note("stopped; this turn is forgotten")
        else:
            self._conversation = asked.answered(answer.text_so_far)
            self._waiting = []

    def _fail(self, text: str) -> None:
        self.failures += 1
        terminal.complain(text)


def main() -> int:
    arguments = _parse()
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives input() a history and editing
        terminal.note("/add FILE takes a clip into the next question, /quit ends, Ctrl-C stops an answer")
    with AudioFlamingo(arguments.url, tls=flags.tls(arguments)) as flamingo:
        chat = Chat(flamingo, [], arguments.timeout, flags.parameters(arguments))
        for file in arguments.files:
            chat.add(file)
        for line in _lines():
            _obey(chat, line)
    # At a terminal the human has seen the errors; a script needs to be told.
    return 1 if chat.failures and not sys.stdin.isatty() else 0


def _obey(chat: Chat, line: str) -> None:
    command, _, rest = line.partition(" ")
    if command == "/add" and rest:
        chat.add(Path(rest.strip()).expanduser())
    elif command.startswith("/"):
        terminal.complain(f"{command}: unknown; there are /add FILE and /quit")
    else:
        chat.ask(line)


def _lines() -> Iterator[str]:
    """What the user types, line by line, until /quit or the end of input."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            print()
            terminal.note("/quit ends the chat")
            continue
        if line == "/quit":
            return
        if line:
            yield line


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m clients.commands.chat",
        description=__doc__,
        epilog="Exit code: 0, or 1 when a turn failed and the input was no terminal; 2 wrong usage.",
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="clips for the first question")
    flags.add_connection(parser)
    flags.add_parameters(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
