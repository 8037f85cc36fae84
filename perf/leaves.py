"""Both LLM leaves of a CPU in one run: python -m perf.leaves, after `make engines` and `make engines LLM=vllm`.

The server with ONNX Runtime and the server with vLLM are both up, and take each number of streams in turn, so that a
busy moment of the machine meets both. Every stream asks one question after the other, each about a clip of its own,
and no answer ends before its last token. Start-up is measured before, one server at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from clients.aio import AsyncAudioFlamingo
from perf import observe, traffic
from perf.place import Place, endless_served
from perf.profile import spread
from perf.report import table

LEAVES = {"ONNX Runtime": "cpu", "vLLM": "cpu-vllm"}
CLIP_S = 2.0
MIB = 1 << 20
HEAD = (
    "streams",
    "leaf",
    "answers/s",
    "tokens/s",
    "first token, ms: p50",
    "p99",
    "between tokens, ms: p50",
    "p99",
    "memory, MiB",
)


@dataclass
class Load:
    """What one number of streams made of one leaf, over all rounds. Seconds."""

    answers: int = 0
    tokens: int = 0
    busy_s: float = 0.0
    first_s: list[float] = field(default_factory=list)
    between_s: list[float] = field(default_factory=list)
    memory_bytes: int = 0


async def put(url: str, streams: int, answers: int, tokens: int, load: Load) -> None:
    """`streams` at a time until `answers` have been given; figures are added to `load`."""
    clips = [row.file for row in traffic.rows((CLIP_S,), answers)]
    waiting = iter(clips)

    async def stream(flamingo: AsyncAudioFlamingo) -> None:
        for clip in waiting:
            sent = last = time.monotonic()
            before = 0
            answer = flamingo.ask(clip, "What do you hear?", max_tokens=tokens)
            async for delta in answer:
                now = time.monotonic()
                if before == 0:
                    load.first_s.append(now - sent)
                elif delta.token_count > before:
                    # A response may hold several tokens: each has its share of the wait.
                    count = delta.token_count - before
                    load.between_s += [(now - last) / count] * count
                before, last = max(before, delta.token_count), now
            load.answers += 1
            load.tokens += before

    async with AsyncAudioFlamingo(url) as flamingo:
        began = time.monotonic()
        await asyncio.gather(*(stream(flamingo) for _ in range(streams)))
        load.busy_s += time.monotonic() - began


def measure(
    places: dict[str, Place], streams: Sequence[int], rounds: int, answers: int, tokens: int
) -> dict[tuple[int, str], Load]:
    """Every number of streams on each leaf in turn; at least `answers`, and two for each stream."""
    loads: dict[tuple[int, str], Load] = {}
    for place in places.values():
        asyncio.run(put(place.url, 1, 2, 8, Load()))  # warm-up
    for _ in range(rounds):
        for count in streams:
            for leaf, place in places.items():
                load = loads.setdefault((count, leaf), Load())
                asyncio.run(put(place.url, count, max(answers, 2 * count), tokens, load))
                assert place.pid is not None
                load.memory_bytes = max(load.memory_bytes, observe.memory_bytes(place.pid))
    return loads


def report(loads: dict[tuple[int, str], Load], ready_s: dict[str, float]) -> str:
    """Markdown: the table of loads, and how long each server took to start."""
    rows = []
    for (count, leaf), load in loads.items():
        first, between = spread(load.first_s), spread(load.between_s)
        figures = (first.p50, first.p99, between.p50, between.p99)
        rows.append(
            [
                str(count),
                leaf,
                f"{load.answers / load.busy_s:.2f}",
                f"{load.tokens / load.busy_s:.0f}",
                *("–" if value is None else f"{1000 * value:.1f}" for value in figures),
                f"{load.memory_bytes / MIB:.0f}",
            ]
        )
    ready = ", ".join(f"{leaf} {seconds:.0f} s" for leaf, seconds in ready_s.items())
    return f"{table(HEAD, rows)}\n\nready after: {ready}"


def faster(loads: dict[tuple[int, str], Load]) -> dict[int, float]:
    """Tokens a second of ONNX Runtime : vLLM, by number of streams."""
    ort, vllm = LEAVES
    rate = {key: load.tokens / load.busy_s for key, load in loads.items()}
    return {count: rate[count, ort] / rate[count, vllm] for count, leaf in loads if leaf == ort}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32], help="default: 1 8 32")
    parser.add_argument("--rounds", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--answers", type=int, default=16, help="of a round, at least (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=48, help="of an answer (default: %(default)s)")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        places = {leaf: stack.enter_context(endless_served(target)) for leaf, target in LEAVES.items()}
        ready_s = {leaf: place.ready_s or 0.0 for leaf, place in places.items()}
        loads = measure(places, arguments.streams, arguments.rounds, arguments.answers, arguments.tokens)
    print(report(loads, ready_s))
    ratios = faster(loads)
    print(f"\ntokens/s, ONNX Runtime : vLLM: {', '.join(f'{n} streams {r:.2f}' for n, r in ratios.items())}")
    print(f"median {statistics.median(ratios.values()):.2f}")


if __name__ == "__main__":
    main()
