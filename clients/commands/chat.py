"""Talk about sound files over several turns. What is typed is a question, or one of these commands:

/add FILE …   take clips into the next question (quotes and ~ as in a shell, Tab completes)
/list         the clips of this chat, and those that wait for the next question
/remove CLIP  take a waiting clip back: its number in /list or its name
/clear        begin again, without turns and clips
/help         these commands
/quit         end the chat (Ctrl-D too); Ctrl-C stops a running answer
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from ..client import AudioFlamingo
from ..errors import AudioFlamingoError
from ..request import Parameters
from . import completion, flags, terminal
from .conversation import Conversation

HELP = __doc__.partition("\n\n")[2].rstrip()
COMMANDS = ("/add", "/list", "/remove", "/clear", "/help", "/quit")
REFUSED_CLIP = re.compile(r"audio\[(\d+)\]")


class Chat:
    """One chat with one server. A turn that fails or is stopped is forgotten; its clips wait for the next,
    but for one that cannot be heard, which is dropped.
    """

    def __init__(self, flamingo: AudioFlamingo, files: list[Path], timeout_s: float, parameters: Parameters):
        self._flamingo = flamingo
        self._timeout_s = timeout_s
        self._parameters = parameters
        self._conversation = Conversation()
        self._heard: list[Path] = []
        self._waiting = files
        self.failures = 0

    def add(self, file: Path) -> None:
        if not file.is_file():
            self._fail(f"{file}: no such file")
            return
        self._waiting.append(file)
        terminal.note(f"{file.name} goes with your next question")

    def remove(self, clip: str) -> None:
        """clip: the number in `list_clips` or the name of a waiting clip."""
        names = {str(len(self._heard) + place): place - 1 for place in range(1, len(self._waiting) + 1)}
        names |= {name: place for place, file in enumerate(self._waiting) for name in (file.name, str(file))}
        if clip not in names:
            self._fail(f"{clip}: no waiting clip has this number or name; /list shows them")
            return
        terminal.note(f"{self._waiting.pop(names[clip]).name} is taken back")

    def clear(self) -> None:
        self._conversation, self._heard, self._waiting = Conversation(), [], []
        terminal.note("a new chat begins, without clips")

    def list_clips(self) -> None:
        clips = [(file, "heard") for file in self._heard] + [(file, "waits") for file in self._waiting]
        for number, (file, state) in enumerate(clips, 1):
            terminal.note(f"{number:3} {state}  {file}")
        if not clips:
            terminal.note("no clips; /add FILE takes one into the next question")

    def ask(self, text: str) -> None:
        asked = self._conversation.asked(text, self._waiting)
        try:
            with self._flamingo.chat(
                asked.messages, asked.clips, timeout_s=self._timeout_s, **self._parameters
            ) as answer:
                terminal.stream(answer, f"listening to {len(asked.clips)} clip(s) …")
        except AudioFlamingoError as error:
            self._fail(f"{error}\nthis turn is forgotten{self._drop_refused(error)}")
        except KeyboardInterrupt:
            terminal.note("stopped; this turn is forgotten")
        else:
            self._conversation = asked.answered(answer.text_so_far)
            self._heard += self._waiting
            self._waiting = []

    def _drop_refused(self, error: AudioFlamingoError) -> str:
        """Drop the waiting clip that the server names, so that it is not sent again; what to tell of it."""
        named = REFUSED_CLIP.match(error.message) if error.status == "INVALID_ARGUMENT" else None
        place = int(named[1]) - len(self._heard) if named else -1
        if not 0 <= place < len(self._waiting):
            return "; /remove and /clear take clips back" if self._waiting else ""
        dropped = self._waiting.pop(place)
        others = "; the other clips wait for your next question" if self._waiting else ""
        return f", and {dropped.name} is dropped{others}"

    def _fail(self, text: str) -> None:
        self.failures += 1
        terminal.complain(text)


def main() -> int:
    arguments = _parse()
    if sys.stdin.isatty():
        completion.enable(COMMANDS)
        terminal.note("/add FILE takes a clip into the next question, /help lists the commands")
    try:
        with AudioFlamingo(arguments.url, tls=flags.tls(arguments), by_hash=arguments.by_hash) as flamingo:
            chat = Chat(flamingo, [], arguments.timeout, flags.parameters(arguments))
            for file in arguments.files:
                chat.add(file)
            for line in _lines():
                _obey(chat, line)
    except AudioFlamingoError as error:
        terminal.complain(str(error))
        return 1
    # At a terminal the human has seen the errors; a script needs to be told.
    return 1 if chat.failures and not sys.stdin.isatty() else 0


def _obey(chat: Chat, line: str) -> None:
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    if command == "/add" and rest:
        for file in _files(rest):
            chat.add(file)
    elif command == "/remove" and rest:
        chat.remove(rest)
    elif line == "/list":
        chat.list_clips()
    elif line == "/clear":
        chat.clear()
    elif line == "/help":
        terminal.note(HELP)
    elif command in COMMANDS:
        terminal.complain(f"{line}: so it is not written; /help lists the commands")
    elif command.startswith("/"):
        terminal.complain(f"{command}: unknown; there are {', '.join(COMMANDS)}")
    else:
        chat.ask(line)


def _files(words: str) -> list[Path]:
    """The paths after /add: one with blanks as it stands, else as a shell reads them."""
    whole = Path(words).expanduser()
    if whole.is_file():
        return [whole]
    try:
        return [Path(word).expanduser() for word in shlex.split(words)]
    except ValueError:  # a quote is open, as in "Anna's.wav"
        return [whole]


def _lines() -> Iterator[str]:
    """The lines that the user types, until /quit or the end of input."""
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
        prog="audio-flamingo chat",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit code: 0, or 1 when a turn failed and the input was no terminal; 2 wrong usage.",
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="clips for the first question")
    flags.add_connection(parser)
    flags.add_parameters(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
