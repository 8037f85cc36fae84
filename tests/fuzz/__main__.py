"""Each number is a message over gRPC and bytes on the HTTP port (HTTP, JSON, forms, WebSocket frames).

python -m tests.fuzz --cases 100000      a nightly run; --from N goes on where one was broken off
python -m tests.fuzz --only 4711          one case again, with what the server said
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress
from serving.host.triton import Server
from tests.fuzz.raw_bytes import run_raw
from tests.fuzz.requests import case
from tests.fuzz.run import good_answer, run
from tests.support.engines import build_random_engines
from tests.support.ready_server import ready_server

HOST = "127.0.0.1"
BLOCK = 500


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--only", type=int)
    given = parser.parse_args()
    numbers = range(given.first, given.cases) if given.only is None else range(given.only, given.only + 1)
    engines = build_random_engines().engines
    with tempfile.TemporaryDirectory(prefix="af3-fuzz-") as name:
        folder = Path(name)
        (folder / "engines").symlink_to(engines.parent)
        log = Path(tempfile.mkstemp(prefix="af3-fuzz-", suffix=".log")[1])
        with (
            ready_server(folder, log) as triton,
            Door(TritonAddress(triton.ports, ""), HOST, claim(Ports(0, 0, 0), HOST)) as door,
        ):
            door.admission.ready = True
            return _fuzz(door.url, door.ports.http, triton, numbers, log)


def _fuzz(door: str, http_port: int, triton: Server, numbers: range, log: Path) -> int:
    expected = good_answer(door)
    began = time.monotonic()
    total = None
    for start in range(numbers.start, numbers.stop, BLOCK):
        block = range(start, min(start + BLOCK, numbers.stop))
        found = run(door, triton.url, map(case, block))
        raw = run_raw(HOST, http_port, block)
        found.counts += raw.counts
        found.wrong += raw.wrong
        for line in found.wrong:  # a nightly run may be broken off
            print(line, flush=True)
        total = found if total is None else total
        if total is not found:
            total.counts += found.counts
            total.wrong += found.wrong
            if found.slowest_s > total.slowest_s:
                total.slowest_s, total.slowest = found.slowest_s, found.slowest
        same = good_answer(door) == expected
        minutes = (time.monotonic() - began) / 60
        print(
            f"{block.stop} of {numbers.stop}, {minutes:.1f} min, {len(total.wrong)} wrong, server unharmed: {same}",
            flush=True,
        )
        if not same or triton.exit_code is not None:
            total.wrong.append(f"after case {block.stop - 1}: the server is harmed; see {log}")
            print(total.wrong[-1])
            break
    assert total is not None
    print(total.table())
    print(f"slowest: case {total.slowest}, {total.slowest_s:.1f} s; the server's log: {log}")
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
