"""Measures targets by name and prints their table; the exit code is 1 when one is missed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from perf.report import table
from perf.targets import after_llm, at_rest, cancel, conversations, longest, stalls, uploads
from perf.targets.target_finding import Finding

TARGETS: dict[str, Callable[[], list[Finding]]] = {
    "tokens": after_llm.tokens,
    "overhead": after_llm.overhead,
    "preprocess": uploads.preprocess,
    "uploads": uploads.uploads,
    "longest": longest.longest,
    "stalls": stalls.stalls,
    "cancel": cancel.cancel,
    "end_to_end": conversations.end_to_end,
    "heard_before": conversations.heard_before,
    "at_rest": at_rest.at_rest,
    "soak": at_rest.soak,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m perf.targets", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TARGETS)} (default: all)")
    names = parser.parse_args().names or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"unknown target {sorted(unknown)[0]}; choose from {', '.join(TARGETS)}")
    rows, missed = [], False
    for name in names:
        busy = os.getloadavg()[0]
        for finding in TARGETS[name]():
            verdict = {True: "met", False: "MISSED", None: "–"}[finding.met]
            rows.append([finding.what, finding.wanted, finding.measured, verdict, f"{busy:.1f}"])
            missed = missed or finding.met is False
            print(f"{name}: {finding.measured} ({verdict})", file=sys.stderr, flush=True)
    print(table(["what", "wanted", "measured", "", "load average before"], rows))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
