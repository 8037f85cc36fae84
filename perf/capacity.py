"""Predicts how much traffic a machine carries: python -m perf.capacity --audio 30 --tokens 128 --price h100=2.5

GPU figures come from a roofline model and were never measured: time is the larger of arithmetic and memory traffic,
each at a stated fraction of the data sheet's peak. With `--raw` (from a sweep on a CPU) the prediction uses measured
processor time per stage and is checked against measured throughput.
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

from af3.inputs.audio import SAMPLE_RATE, WINDOW_SAMPLES, audio_token_count
from build_engines.targets import TARGETS
from perf.report import table

# Audio Flamingo 3, from its shapes: encoder and adaptor take 1.89 TFLOP (linear) and 0.41 TFLOP (attention,
# convolutions) per 30 s window; Qwen2.5-7B takes 13.1 GFLOP per token and, causal, 0.2 MFLOP per pair of tokens.
WINDOW_LINEAR_FLOP, WINDOW_ATTENTION_FLOP = 1.89e12, 0.41e12
TOKEN_FLOP = 13.1e9
TOKEN_PAIR_FLOP = 0.2e6
LINEAR_WEIGHTS = 6.5e9
OTHER_WEIGHT_BYTES = 1.09e9 * 2  # embedding and output head, BF16 in every precision
ENCODER_BYTES = 0.65e9 * 2
PROMPT_TABLE_ROW_BYTES = 3584 * 2
KV_BYTES_PER_TOKEN = 57_344  # BF16, 28 layers of 4 heads of 128
BYTES_PER_WEIGHT = {"fp8": 1.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}
RESERVED_BYTES = 6e9  # activations, contexts and the embedding cache; build_engines.memory_plan lists them
# Fractions of the peak reached in practice: assumptions, to be replaced by measurements.
ARITHMETIC_PART, BANDWIDTH_PART = 0.5, 0.7


@dataclass(frozen=True)
class Gpu:
    """Dense peaks from the data sheet: FLOP/s in BF16 and in the LLM's precision, memory bytes/s, memory bytes."""

    name: str
    bf16_flop_s: float
    llm_flop_s: float
    bytes_s: float
    memory: float


GPUS = {
    "h100": Gpu("H100 SXM 80 GB", 989e12, 1979e12, 3.35e12, 80e9),
    "h200": Gpu("H200 141 GB", 989e12, 1979e12, 4.8e12, 141e9),
    "a100": Gpu("A100 SXM 80 GB", 312e12, 312e12, 2.04e12, 80e9),
    "l40s": Gpu("L40S 48 GB", 362e12, 733e12, 0.864e12, 48e9),
}


@dataclass(frozen=True)
class Traffic:
    """One kind of request. heard_before: fraction of requests whose clip is in the embedding cache.
    think_s: from the end of an answer to the next question of the session.
    """

    audio_s: float = 30.0
    text_tokens: int = 40
    output_tokens: int = 128
    heard_before: float = 0.0
    think_s: float = 20.0

    @property
    def prompt_tokens(self) -> int:
        return self.text_tokens + sum(map(audio_token_count, self._windows))

    @property
    def encoder_flop(self) -> float:
        """FLOP for all windows: linear layers grow with the window's length, attention with its square."""
        parts = [samples / WINDOW_SAMPLES for samples in self._windows]
        return sum(WINDOW_LINEAR_FLOP * part + WINDOW_ATTENTION_FLOP * part**2 for part in parts)

    @property
    def prefill_flop(self) -> float:
        return TOKEN_FLOP * self.prompt_tokens + TOKEN_PAIR_FLOP * self.prompt_tokens**2

    @property
    def _windows(self) -> list[int]:
        """Samples of each."""
        whole, rest = divmod(round(self.audio_s * SAMPLE_RATE), WINDOW_SAMPLES)
        return [WINDOW_SAMPLES] * whole + ([rest] if rest else [])


@dataclass(frozen=True)
class Capacity:
    """What one GPU carries at its best batch size. first_token_s: encoder and prefill without queueing."""

    batch: int
    requests_per_s: float
    first_token_s: float
    tokens_per_s_each: float
    sessions: float
    audio_hours_per_hour: float


def predict(gpu: Gpu, precision: str, most_at_once: int, traffic: Traffic, table_rows: int = 0) -> Capacity:
    """Predict one GPU's capacity by the roofline.

    most_at_once: batch size of the engine; KV cache memory may allow fewer. table_rows: rows of its prompt table.
    """
    weights = LINEAR_WEIGHTS * BYTES_PER_WEIGHT[precision] + OTHER_WEIGHT_BYTES
    context = traffic.prompt_tokens + traffic.output_tokens
    free = gpu.memory - weights - ENCODER_BYTES - RESERVED_BYTES - table_rows * PROMPT_TABLE_ROW_BYTES
    batch = max(1, min(most_at_once, int(free / (KV_BYTES_PER_TOKEN * context))))
    encode_s = traffic.encoder_flop / (gpu.bf16_flop_s * ARITHMETIC_PART)
    prefill_s = traffic.prefill_flop / (gpu.llm_flop_s * ARITHMETIC_PART)
    kv_bytes = batch * KV_BYTES_PER_TOKEN * (context - traffic.output_tokens / 2)
    step_s = max(
        (weights + kv_bytes) / (gpu.bytes_s * BANDWIDTH_PART),
        batch * TOKEN_FLOP / (gpu.llm_flop_s * ARITHMETIC_PART),
    )
    # One GPU does all three: a request takes its own encoder and prefill time and its share of every decode step.
    own_s = encode_s * (1 - traffic.heard_before) + prefill_s
    busy_s = own_s + traffic.output_tokens * step_s / batch
    answer_s = batch * busy_s  # Little's law: `batch` requests are in flight, each for this long
    return Capacity(
        batch=batch,
        requests_per_s=1 / busy_s,
        first_token_s=encode_s + prefill_s,
        tokens_per_s_each=traffic.output_tokens / (answer_s - own_s) if batch > 1 else 1 / step_s,
        sessions=(answer_s + traffic.think_s) / busy_s,
        audio_hours_per_hour=traffic.audio_s / busy_s,
    )


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


def gpu_table(traffic: Traffic, prices: Mapping[str, float]) -> str:
    """Render Markdown. prices: money per hour; a GPU without a price gets no cost."""
    rows = []
    for name, gpu in GPUS.items():
        target = TARGETS[name]
        precision = target.llm_precision
        found = predict(gpu, precision, target.limits.max_batch_size, traffic, target.prompt_table_rows)
        cost = f"{prices[name] / found.audio_hours_per_hour:.4f}" if name in prices else "–"
        rows.append(
            [
                f"{gpu.name}, {precision}",
                str(found.batch),
                f"{found.requests_per_s:.1f}",
                f"{1000 * found.first_token_s:.0f}",
                f"{found.tokens_per_s_each:.0f}",
                f"{found.sessions:.0f}",
                f"{found.audio_hours_per_hour:.0f}",
                cost,
            ]
        )
    head = ["GPU", "at once", "requests/s", "first token, ms", "tokens/s each", "sessions"]
    return table([*head, "audio hours an hour", "cost an audio hour"], rows)


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
    parser.add_argument("--raw", type=Path, help="raw.json of a sweep on a CPU, to check the model")
    given = parser.parse_args()
    asked = Traffic(given.audio, given.text, given.tokens, given.heard_before, given.think)
    prices = {name: float(money) for name, _, money in (pair.partition("=") for pair in given.price)}
    if unknown := set(prices) - set(GPUS):
        parser.error(f"--price {sorted(unknown)[0]}: unknown GPU; choose from {', '.join(GPUS)}")
    print(
        f"Predictions of a roofline at {ARITHMETIC_PART:.0%} of the arithmetic and {BANDWIDTH_PART:.0%} of the"
    )
    print("memory bandwidth on the data sheet. Nothing here was measured on a GPU.\n")
    print(gpu_table(asked, prices))
    if given.raw is not None:
        print(cpu_tables(json.loads(given.raw.read_text()), asked))
    return 0


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
