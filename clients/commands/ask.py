"""Ask one question about sound files; the answer is printed while it is written."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from ..client import Answer, AudioFlamingo
from ..errors import AudioFlamingoError
from . import flags, terminal
from .answer_record import failed, record
from .interruptible import deltas


def main() -> int:
    arguments = _parse()
    started_s = time.monotonic()
    try:
        with (
            AudioFlamingo(arguments.url, tls=flags.tls(arguments), by_hash=arguments.by_hash) as flamingo,
            flamingo.ask(
                arguments.files,
                arguments.question,
                timeout_s=arguments.timeout,
                **flags.parameters(arguments),
            ) as answer,
        ):
            return _print_record(answer, started_s) if arguments.json else _print_text(answer, arguments)
    except AudioFlamingoError as error:
        if arguments.json:  # what goes wrong after sending has its record already
            print(json.dumps(failed(started_s, error).fields(), ensure_ascii=False))
        terminal.complain(str(error))
        return 1
    except KeyboardInterrupt:
        return flags.EXIT_STOPPED


def _print_text(answer: Answer, arguments: argparse.Namespace) -> int:
    terminal.stream(answer, f"listening to {len(arguments.files)} clip(s) …")
    return 0


def _print_record(answer: Answer, started_s: float) -> int:
    problem: AudioFlamingoError | None = None
    try:
        for _ in deltas(answer):
            pass
    except AudioFlamingoError as error:
        problem = error
        terminal.complain(str(error))
    print(json.dumps(record(answer, started_s, problem).fields(), ensure_ascii=False))
    return 1 if problem else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="audio-flamingo ask", description=__doc__, epilog=flags.EXIT_CODES)
    parser.add_argument("files", nargs="*", metavar="FILE", help="clips, of any format that the server reads")
    parser.add_argument("question", help="the last argument")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object at the end instead: text, finish_reason, token_count, seconds, error, thinking",
    )
    flags.add_connection(parser)
    flags.add_parameters(parser)
    arguments = parser.parse_intermixed_args()
    if os.path.isfile(arguments.question):  # noqa: PTH113 - Path.is_file() raises for a long question
        parser.error(f"the last argument is the question, and {arguments.question} is a file")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
