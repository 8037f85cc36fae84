"""Predicts how much traffic a machine carries: python -m perf.capacity --audio 30 --tokens 128 --price h100=2.5

GPU figures come from a roofline (perf/roofline.py) and were never measured. `--measured h100=report.json` replaces its
two assumptions for a GPU by what `make acceptance` measured there. With `--raw` (from a sweep on a CPU) the prediction
uses measured processor time per stage and is checked against measured throughput.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from build_engines.targets import TARGETS
from perf.report import table
from perf.roofline import GPUS, Parts, Traffic, measured_parts, predict


@dataclass(frozen=True)
class ProcessorCost:
    """Processor seconds of a request on a CPU: a fixed part, a part per second of audio and a part per token."""

    own_s: float
    audio_second_s: float
    token_s: float

    def of(self, audio_s: float, tokens: float) -> float:
        return self.own_s + self.audio_second_s * audio_s + self.token_s * tokens


CALIBRATED_ON = ("audio length", "output length")
CHECKED_ON = ("concurrency", "mixed")
LINEAR_TO_S = 30  # beyond this, attention's quadratic cost shows


def fit(cells: Sequence[Mapping[str, Any]]) -> ProcessorCost:
    """Fit by non-negative least squares over the loads that vary audio or output length.

    Raises ValueError for fewer than three such loads.
    """
    used = [cell for cell in cells if cell["group"] in CALIBRATED_ON and _usable(cell)]
    if len(used) < 3:
        raise ValueError(
            f"{len(used)} loads that vary audio or output length, 3 are needed; use a full sweep"
        )
    rows = np.array([[1.0, _audio_s(cell), cell["figures"]["tokens_per_request"]] for cell in used])
    spent = np.array([_spent(cell) for cell in used])
    # Weigh relative errors; absolute ones would let one long clip outweigh all others.
    solved = np.linalg.lstsq(rows / spent[:, None], np.ones(len(spent)), rcond=None)[0]
    return ProcessorCost(*(max(0.0, float(value)) for value in solved))


def check(
    cells: Sequence[Mapping[str, Any]], cost: ProcessorCost, cores: int
) -> list[tuple[str, float, float]]:
    """Predict the loads that kept every core busy and were not fitted: name, predicted and measured requests/s."""
    found = []
    for cell in cells:
        at_once = cell["load"]["concurrency"] or 0
        if cell["group"] in CHECKED_ON and at_once >= 2 * cores and _usable(cell):
            figures = cell["figures"]
            predicted = cores / cost.of(_audio_s(cell), figures["tokens_per_request"])
            found.append((cell["load"]["name"], predicted, figures["requests_per_s"]))
    return found


def _usable(cell: Mapping[str, Any]) -> bool:
    figures = cell["figures"]
    return bool(figures and not figures["errors"]) and _audio_s(cell) <= LINEAR_TO_S and _spent(cell) > 0


def _audio_s(cell: Mapping[str, Any]) -> float:
    return float(cell["figures"]["audio_s_per_s"] / cell["figures"]["requests_per_s"])


def _spent(cell: Mapping[str, Any]) -> float:
    """Processor seconds per request over all processes that can be seen, including the client."""
    seconds = [stage["processor_s"] or 0.0 for stage in cell["stages"].values()]
    return float(sum(seconds) / cell["figures"]["requests"])


def gpu_table(
    traffic: Traffic, prices: Mapping[str, float], cores: int, measured: Mapping[str, Parts]
) -> str:
    """Render Markdown. prices: money per hour; a GPU without a price gets no cost. measured: parts by GPU."""
    rows = []
    for name, gpu in GPUS.items():
        limits, precision = TARGETS[name].limits, TARGETS[name].llm_precision
        rows_of_table, parts = TARGETS[name].prompt_table_rows, measured.get(name, Parts())
        found = predict(gpu, precision, limits.max_batch_size, traffic, rows_of_table, parts, cores)
        cost = f"{prices[name] / found.audio_hours_per_hour:.4f}" if name in prices else "–"
        rows.append(
            [
                f"{gpu.name}, {precision}",
                str(found.batch),
                f"{found.requests_per_s:.1f}",
                f"{found.overlapped_per_s:.1f}",
                f"{found.tokens_per_s:.0f}",
                found.limit,
                f"{1000 * found.first_token_s:.0f}",
                f"{found.tokens_per_s_each:.0f}",
                f"{found.sessions:.0f}",
                f"{found.audio_hours_per_hour:.0f}",
                cost,
            ]
        )
    head = ["GPU", "at once", "requests/s", "with MPS, at best", "tokens/s", "limit", "first token, ms"]
    return table([*head, "tokens/s each", "sessions", "audio hours an hour", "cost an audio hour"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    traffic = Traffic()
    parser.add_argument("--audio", type=float, default=traffic.audio_s, help="seconds (default: %(default)s)")
    parser.add_argument("--text", type=int, default=traffic.text_tokens, help="tokens (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=traffic.output_tokens, help="default: %(default)s")
    parser.add_argument(
        "--heard-before",
        type=float,
        default=0.0,
        help="fraction of requests whose clip is cached (default: 0)",
    )
    parser.add_argument(
        "--think", type=float, default=traffic.think_s, help="seconds before a session asks again"
    )
    parser.add_argument(
        "--price", nargs="*", default=[], metavar="GPU=MONEY", help="per hour: --price h100=2.5 l40s=0.8"
    )
    parser.add_argument("--cores", type=int, default=32, help="of the GPU's host (default: %(default)s)")
    parser.add_argument(
        "--measured",
        nargs="*",
        default=[],
        metavar="GPU=REPORT",
        help="report.json of `make acceptance` on that GPU, in place of the assumptions",
    )
    parser.add_argument("--raw", type=Path, help="raw.json of a sweep on a CPU, to check the model")
    given = parser.parse_args()
    asked = Traffic(given.audio, given.text, given.tokens, given.heard_before, given.think)
    prices = {name: float(money) for name, _, money in (pair.partition("=") for pair in given.price)}
    reports = {name: path for name, _, path in (pair.partition("=") for pair in given.measured)}
    if unknown := {*prices, *reports} - {*GPUS}:
        parser.error(f"{sorted(unknown)[0]}: unknown GPU; choose from {', '.join(GPUS)}")
    try:
        measured = {name: _parts(name, Path(path)) for name, path in reports.items()}
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(
        "Predictions of a roofline from the data sheet; nothing here was measured on a GPU but what is named.\n"
    )
    for name in GPUS:
        parts, source = measured.get(name, Parts()), "measured" if name in measured else "assumed"
        print(
            f"{name}: {parts.arithmetic:.0%} of the arithmetic, {parts.bandwidth:.0%} of the bandwidth, {source}"
        )
    print(f"\n{gpu_table(asked, prices, given.cores, measured)}")
    if given.raw is not None:
        print(cpu_tables(json.loads(given.raw.read_text()), asked))
    return 0


def _parts(name: str, report: Path) -> Parts:
    return measured_parts(json.loads(report.read_text()), GPUS[name], TARGETS[name].llm_precision)


def cpu_tables(raw: Mapping[str, Any], asked: Traffic) -> str:
    """Render Markdown: what this machine carries of that traffic, and the model's error where it was measured."""
    cores = raw["machine"]["cores"]
    cost = fit(raw["cells"])
    carried = cores / cost.of(asked.audio_s, asked.output_tokens)
    rows = [
        [name, f"{predicted:.1f}", f"{measured:.1f}", f"{predicted / measured - 1:+.0%}"]
        for name, predicted, measured in check(raw["cells"], cost, cores)
    ]
    return (
        f"\nOn the CPU of the sweep ({cores} cores, the client's part included): {1000 * cost.own_s:.1f} ms a request,"
        f" {1000 * cost.audio_second_s:.2f} ms a second of audio, {1000 * cost.token_s:.2f} ms a token;"
        f" {carried:.1f} requests/s of this traffic.\n\n"
        + table(["load not calibrated on", "predicted requests/s", "measured", "off by"], rows)
    )


if __name__ == "__main__":
    sys.exit(main())
