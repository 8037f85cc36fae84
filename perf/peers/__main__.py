"""`make peers`: vLLM, `transformers serve` and llama.cpp beside this server, with one checkpoint, in one run.

Every server is started alone first, for its start-up and its memory, and asked the same questions as Transformers'
`generate()`. Then all are up, and every load is put to each in turn, in an order that changes each round. Raw figures,
tables and plots go to perf/results/peers-<time>/.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from af3.manifest import ManifestError
from perf import traffic
from perf.peers import comparison, exact
from perf.peers.asking import RefusedError, load, question
from perf.peers.environments import PeerError
from perf.peers.servers import QUESTION, SERVERS, Server
from perf.place import PlaceError
from perf.sweep import RESULTS, processor

LONG_TOKENS = 256
LONG_CLIENTS = (1, 8)
# More than any server answers in a load: questions a second by clip length on these machines.
MOST_PER_S = {5.0: 40, 29.0: 12, 75.0: 6}


def main() -> int:
    arguments = _parse()
    raw: dict[str, Any] = {
        "date": time.strftime("%d %B %Y"),
        "checkpoint": arguments.checkpoint.name,
        "cores": os.cpu_count(),
        "processor": processor(),
        "load_average": os.getloadavg()[0],
        "rounds": arguments.rounds,
        "tokens": arguments.tokens,
        "servers": {},
        "exact": {},
        "loads": [],
    }
    folder = RESULTS / time.strftime("peers-%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    try:
        _alone(arguments, raw)
        with ExitStack() as stack:
            servers = [
                stack.enter_context(SERVERS[name](arguments.checkpoint, True)) for name in arguments.servers
            ]
            for measured in _loads(servers, arguments):
                raw["loads"].append(measured)
                (folder / "raw.json").write_text(json.dumps(raw, indent=1) + "\n")
            for server in servers:
                raw["servers"][server.name]["memory_after_bytes"] = server.memory()
    except (ManifestError, PeerError, PlaceError) as error:
        print(f"perf.peers: {error}", file=sys.stderr)
        return 2
    (folder / "raw.json").write_text(json.dumps(raw, indent=1) + "\n")
    comparison.write(raw, folder)
    print("\n".join(comparison.verdicts(raw)))
    print(f"report: {folder}/report.md; raw figures: {folder}/raw.json")
    return (
        1 if any(not measured["figures"] or measured["figures"]["errors"] for measured in raw["loads"]) else 0
    )


def _alone(arguments: argparse.Namespace, raw: dict[str, Any]) -> None:
    """Start-up, memory and exactness, one server at a time."""
    asked = exact.questions(arguments.exact)
    expected = exact.reference(arguments.checkpoint, asked)
    for name in arguments.servers:
        with SERVERS[name](arguments.checkpoint, False) as server:
            raw["servers"][name] = {
                "version": server.version,
                "start_s": server.start_s,
                "memory_bytes": server.memory_bytes,
            }
            same = asyncio.run(exact.compare(server, asked, expected))
            raw["exact"][name] = asdict(same)
        _say(
            f"{name}: first answer after {server.start_s:.1f} s, {server.memory_bytes / comparison.MIB:.0f} MiB,"
            f" {same.same} of {same.asked} answers as Transformers', {same.refused} refused"
        )


def _loads(servers: Sequence[Server], arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    plan = [
        (seconds, arguments.tokens, clients) for seconds in arguments.clips for clients in arguments.clients
    ]
    if arguments.long:
        plan += [(arguments.clips[0], LONG_TOKENS, clients) for clients in LONG_CLIENTS]
    for number in range(arguments.rounds):
        order = [*servers[number % len(servers) :], *servers[: number % len(servers)]]
        for seconds, tokens, clients in plan:
            count = clients + round(MOST_PER_S.get(seconds, 40) * arguments.seconds)
            files = [traffic.clip(seconds, next(_numbers), "WAV") for _ in range(count)]
            for server in order:
                bodies = [
                    question(file, "wav", QUESTION, server.model, tokens, server.fields) for file in files
                ]
                measured: dict[str, Any] = {
                    "round": number,
                    "seconds": seconds,
                    "tokens": tokens,
                    "clients": clients,
                    "server": server.name,
                    "load_average": os.getloadavg()[0],
                    "figures": None,
                }
                kind = f"{seconds:g} s, {tokens} tokens, {clients} at once"
                what = f"{number + 1}/{arguments.rounds} {kind}, {server.name}"
                try:
                    found = asyncio.run(load(server.url, bodies, clients, arguments.seconds))
                except RefusedError as error:
                    _say(f"{what}: {error}")
                else:
                    measured["figures"] = asdict(found)
                    _say(
                        f"{what}: {found.requests_per_s:.2f} requests/s, first token {1000 * found.first_p50_s:.0f} ms,"
                        f" {1000 * found.token_s:.2f} ms a token, {found.errors} errors"
                    )
                yield measured


_numbers = iter(range(1_000_000, 2_000_000))  # no clip of the exactness run is among them


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m perf.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--servers",
        nargs="+",
        choices=list(SERVERS),
        default=list(SERVERS),
        help="default: all; ours must be one",
    )
    parser.add_argument(
        "--checkpoint", type=Path, default=Path("checkpoints/af3-tiny"), help="default: %(default)s"
    )
    parser.add_argument(
        "--clips", type=float, nargs="+", default=[5.0, 29.0, 75.0], help="seconds; default: 5 29 75"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="at once; default: 1 8 32")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of a load, at least (default: %(default)s)"
    )
    parser.add_argument(
        "--exact", type=int, default=40, help="clips compared with generate() (default: %(default)s)"
    )
    parser.add_argument(
        "--no-long", dest="long", action="store_false", help=f"without answers of {LONG_TOKENS} tokens"
    )
    arguments = parser.parse_args()
    if comparison.OURS not in arguments.servers:
        parser.error("--servers: ours must be one of them, every ratio is against it")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
