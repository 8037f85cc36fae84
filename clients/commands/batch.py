"""Ask about many clips, several at a time. Run it again to go on where it stopped."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ..aio import AsyncAnswer, AsyncAudioFlamingo
from ..errors import AudioFlamingoError, ServerNotReachable
from . import flags, terminal
from .answer_record import Record, failed, record
from .batch_input import BadInput, Item, read_items
from .batch_output import AnswersFile

IN_FLIGHT = 8  # as many as the CPU server decodes at once
PAUSES_S = (1, 2, 4, 8)  # when the server has no room and does not say how long; the last again and again
LONGEST_WAIT_S = 120.0  # a restart of the server takes up to a minute
TRY_AGAIN = re.compile(r"try again in (\d+(?:\.\d+)?) s")

EPILOG = """
INPUT is a folder (every file below it that is not hidden and may be sound, with --prompt; the id is its path
in the folder) or a JSONL file with lines such as
  {"id": 1, "audio": ["dog.wav"], "prompt": "What is it?", "max_tokens": 64}
  {"id": "b", "audio": ["a.wav", "b.wav"], "messages": [{"role": "user", "content": [{"type": "audio"}, …]}]}
Paths are relative to the JSONL file; all flags of "how to answer" are allowed as keys and win over the flags.

Every answer is a line of --out, in the order in which they are done:
  {"id", "text", "finish_reason", "token_count", "seconds", "error", "asked"}
error is null or "STATUS: sentence"; asked is a fingerprint of the question. Ids that are in --out already are not
asked again; an answer there to another question is refused.

Exit code: 0 all answered, 1 some lines of --out are errors or the server is gone, 2 wrong usage or input,
130 stopped by Ctrl-C."""


def main() -> int:
    arguments = _parse()
    try:
        questions = read_items(arguments.input, arguments.prompt, flags.parameters(arguments))
        if questions.skipped:
            terminal.note(questions.skipped_files())
        with AnswersFile(arguments.out, arguments.retry_errors) as answers:
            asyncio.run(_run(answers.left(questions.items), answers, arguments))
    except BadInput as error:
        terminal.complain(str(error))
        return 2
    except ServerNotReachable as error:
        terminal.complain(f"{error.message}\nanswers so far are in {arguments.out}; run this again to go on")
        return 1
    except AudioFlamingoError as error:  # of the connection: a certificate that cannot be read
        terminal.complain(str(error))
        return 2
    except KeyboardInterrupt:
        terminal.note(f"stopped; answers so far are in {arguments.out}, run this again to go on")
        return flags.EXIT_STOPPED
    terminal.note(f"{len(questions.items)} items, {answers.errors} errors, in {arguments.out}")
    return 1 if answers.errors else 0


async def _run(items: Sequence[Item], answers: AnswersFile, arguments: argparse.Namespace) -> None:
    """Ask all items, `in_flight` at a time. Raises ServerNotReachable; a later run can go on."""
    queue = iter(items)
    # disable=None: no bar where stderr is no terminal.
    with tqdm(total=len(items), unit="clip", disable=None) as bar:
        async with AsyncAudioFlamingo(
            arguments.url, tls=flags.tls(arguments), by_hash=arguments.by_hash
        ) as flamingo:

            async def work() -> None:
                for item in queue:
                    answers.write(item, await _answer(flamingo, item, arguments.timeout))
                    bar.set_postfix(errors=answers.errors, refresh=False)
                    bar.update()

            await _all_or_none([asyncio.create_task(work()) for _ in range(arguments.in_flight)])


async def _all_or_none(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for all; when one fails, end the others before the connection closes under them."""
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(flamingo: AsyncAudioFlamingo, item: Item, timeout_s: float) -> Record:
    """The record of one item, waiting while the server has no room. Raises ServerNotReachable only."""
    until_s = time.monotonic() + LONGEST_WAIT_S
    for pause_s in itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1])):
        answered = await _attempt(flamingo, item, timeout_s)
        error = answered.error or ""
        if not error.startswith("UNAVAILABLE") or time.monotonic() > until_s:
            return answered
        told = TRY_AGAIN.search(error)
        await asyncio.sleep(float(told[1]) if told else pause_s)
    raise AssertionError("the pauses never end")


async def _attempt(flamingo: AsyncAudioFlamingo, item: Item, timeout_s: float) -> Record:
    started_s = time.monotonic()
    try:
        answer = _ask(flamingo, item, timeout_s)
    except AudioFlamingoError as error:
        return failed(started_s, error)
    async with answer:
        try:
            await answer.text()
        except ServerNotReachable:
            raise  # every item after this one would fail too
        except AudioFlamingoError as error:
            return record(answer, started_s, error)
        return record(answer, started_s)


def _ask(flamingo: AsyncAudioFlamingo, item: Item, timeout_s: float) -> AsyncAnswer:
    if item.messages is not None:
        return flamingo.chat(item.messages, item.audio, timeout_s=timeout_s, **item.parameters)
    return flamingo.ask(item.audio, item.prompt or "", timeout_s=timeout_s, **item.parameters)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="audio-flamingo batch",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", type=Path, metavar="INPUT", help="a folder of clips or a JSONL file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSONL file for the answers")
    parser.add_argument("--prompt", help="the question for every clip or line that has none")
    parser.add_argument(
        "--in-flight",
        type=int,
        choices=range(1, 257),
        default=IN_FLIGHT,
        metavar="N",
        help="questions at a time (default: %(default)s)",
    )
    parser.add_argument("--retry-errors", action="store_true", help="ask again what failed in an earlier run")
    flags.add_connection(parser)
    flags.add_parameters(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
