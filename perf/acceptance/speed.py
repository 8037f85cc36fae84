"""Measures TTFT, inter-token latency and tokens/s of a running server at several numbers of streams."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from clients.client import AudioFlamingo

CLIP = Path(__file__).resolve().parents[2] / "checkpoints" / "samples" / "melody.wav"
TOKENS = 64


@dataclass
class Stream:
    """The answers of one client: seconds to first token, seconds between responses, total tokens."""

    first_s: list[float] = field(default_factory=list)
    between_s: list[float] = field(default_factory=list)
    tokens: int = 0
    error: str = ""


def measure(url: str, streams: int, rounds: int) -> dict[str, float]:
    """Run `streams` clients that each ask `rounds` questions in turn. Raises RuntimeError when one fails.

    Answers are sampled, which makes them long, and each prompt is unique, so that no cache answers.
    """
    found = [Stream() for _ in range(streams)]
    threads = [
        threading.Thread(target=_ask, args=(url, number, rounds, stream))
        for number, stream in enumerate(found)
    ]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - started
    for stream in found:
        if stream.error:
            raise RuntimeError(stream.error)
    between = [gap for stream in found for gap in stream.between_s]
    return {
        "streams": streams,
        "ttft_ms": 1000 * median(first for stream in found for first in stream.first_s),
        "itl_ms": 1000 * median(between) if between else 0.0,
        "tokens_per_s": sum(stream.tokens for stream in found) / took,
    }


def _ask(url: str, number: int, rounds: int, stream: Stream) -> None:
    try:
        with AudioFlamingo(url) as server:
            for turn in range(rounds):
                asked = last = time.monotonic()
                prompt = f"Describe this audio in detail. ({number}.{turn})"
                count = 0
                for delta in server.ask(CLIP, prompt, max_tokens=TOKENS, temperature=1.0, seed=turn):
                    now = time.monotonic()
                    if delta.token_count > count:
                        (stream.between_s if count else stream.first_s).append(
                            now - last if count else now - asked
                        )
                        count, last = delta.token_count, now
                stream.tokens += count
    except Exception as error:
        stream.error = f"stream {number}: {error}"


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.acceptance.speed", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(given)
    measure(arguments.url, 1, 1)  # warm-up: CUDA graphs and kernels of the first shapes
    rows = [measure(arguments.url, streams, arguments.rounds) for streams in arguments.streams]
    text = json.dumps(rows, indent=1)
    arguments.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
