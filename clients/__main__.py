"""The console command `audio-flamingo`: its words choose a program, which reads the rest of the line."""

from __future__ import annotations

import importlib
import importlib.util
import sys

from .version import VERSION

# word → module of this package, what it does
CLIENT_COMMANDS = {
    "ask": "one question about sound files; the answer as it is written",
    "chat": "a conversation about sound files",
    "batch": "the same for many clips, several at a time; resumes",
    "talk": "questions by voice, answers by voice",
}
# word → module of the server, what it does
SERVER_COMMANDS = {
    "serve": ("serving.host.launch", "start the server"),
    "doctor": ("serving.machine.doctor", "what this machine lacks for the server, and how to get it"),
}
NEEDS_SERVER = (
    "audio-flamingo {word}: the server is not installed here, only the client. The server runs from its\n"
    "repository: clone it, run `make setup` there, then `.venv/bin/audio-flamingo {word}`."
)


def main() -> int:
    """Exit code: that of the command; 2 for an unknown one and for one that needs the server."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"audio-flamingo {VERSION}")
        return 0
    return _run(words[0], words[1:])


def _run(word: str, arguments: list[str]) -> int:
    if word in CLIENT_COMMANDS:
        module = f"{__package__}.commands.{word}"
    elif word in SERVER_COMMANDS:
        module = SERVER_COMMANDS[word][0]
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            print(NEEDS_SERVER.format(word=word), file=sys.stderr)
            return 2
    else:
        print(f"audio-flamingo: no command {word!r}\n\n{_help()}", file=sys.stderr)
        return 2
    sys.argv = [f"audio-flamingo {word}", *arguments]
    try:
        program = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if word in CLIENT_COMMANDS:
            raise
        # In a clone, with an environment that holds the client alone.
        print(f"{NEEDS_SERVER.format(word=word)}\n(missing: {error.name})", file=sys.stderr)
        return 2
    code: int = program.main()
    return code


def _help() -> str:
    commands = {**CLIENT_COMMANDS, **{word: text for word, (_, text) in SERVER_COMMANDS.items()}}
    lines = "\n".join(f"  {word:<8}{text}" for word, text in commands.items())
    return (
        "usage: audio-flamingo COMMAND …\n\n"
        f"{lines}\n\n"
        "audio-flamingo COMMAND --help says more; audio-flamingo --version prints the version."
    )


if __name__ == "__main__":
    sys.exit(main())
