"""Predicts what one GPU carries: time is the larger of arithmetic and memory traffic, each at a fraction of its peak.

Nothing here was measured on a GPU. `measured_parts` takes the fractions from a report of perf.acceptance instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from af3.inputs.audio import SAMPLE_RATE, WINDOW_SAMPLES, audio_token_count

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
# Processor time of a token after the LLM where each is a response of its own, as TensorRT-LLM's backend sends them:
# in postprocess, which is one process, and in all processes with the client (perf.targets tokens, two AVX-512 cores).
POSTPROCESS_TOKEN_S, TOKEN_S = 167e-6, 803e-6


@dataclass(frozen=True)
class Parts:
    """Fractions of the data sheet's peaks that are reached; assumptions until measured."""

    arithmetic: float = 0.5
    bandwidth: float = 0.7


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
    """What one GPU carries at its best batch size.

    requests_per_s: encoder, prefill and decoding take turns. overlapped_per_s: MPS hides the shorter of arithmetic and
    memory traffic behind the longer, which is the best it can do. limit: what ends `requests_per_s`, the GPU or the
    token path. first_token_s: encoder and prefill without queueing.
    """

    batch: int
    requests_per_s: float
    overlapped_per_s: float
    tokens_per_s: float
    limit: str
    first_token_s: float
    tokens_per_s_each: float
    sessions: float
    audio_hours_per_hour: float


def token_path(cores: int) -> float:
    """Tokens/s that the host's processes carry after the LLM."""
    return min(1 / POSTPROCESS_TOKEN_S, cores / TOKEN_S)


def weight_bytes(precision: str) -> float:
    return LINEAR_WEIGHTS * BYTES_PER_WEIGHT[precision] + OTHER_WEIGHT_BYTES


def predict(
    gpu: Gpu,
    precision: str,
    most_at_once: int,
    traffic: Traffic,
    table_rows: int = 0,
    parts: Parts = Parts(),
    cores: int = 32,
) -> Capacity:
    """Predict one GPU's capacity by the roofline.

    most_at_once: batch size of the engine; KV cache memory may allow fewer. table_rows: rows of its prompt table.
    cores: of the host.
    """
    weights = weight_bytes(precision)
    context = traffic.prompt_tokens + traffic.output_tokens
    free = gpu.memory - weights - ENCODER_BYTES - RESERVED_BYTES - table_rows * PROMPT_TABLE_ROW_BYTES
    batch = max(1, min(most_at_once, int(free / (KV_BYTES_PER_TOKEN * context))))
    encode_s = traffic.encoder_flop / (gpu.bf16_flop_s * parts.arithmetic)
    prefill_s = traffic.prefill_flop / (gpu.llm_flop_s * parts.arithmetic)
    kv_bytes = batch * KV_BYTES_PER_TOKEN * (context - traffic.output_tokens / 2)
    read_s = (weights + kv_bytes) / (gpu.bytes_s * parts.bandwidth)
    multiply_s = batch * TOKEN_FLOP / (gpu.llm_flop_s * parts.arithmetic)
    step_s = max(read_s, multiply_s)
    # One GPU does all three: a request takes its own encoder and prefill time and its share of every decode step.
    own_s = encode_s * (1 - traffic.heard_before) + prefill_s
    steps = traffic.output_tokens / batch
    turns_s, overlapped_s = own_s + steps * step_s, max(own_s + steps * multiply_s, steps * read_s)
    path_s = traffic.output_tokens / token_path(cores)
    busy_s = max(turns_s, path_s)
    answer_s = batch * busy_s  # Little's law: `batch` requests are in flight, each for this long
    return Capacity(
        batch=batch,
        requests_per_s=1 / busy_s,
        overlapped_per_s=1 / max(overlapped_s, path_s),
        tokens_per_s=traffic.output_tokens / busy_s,
        limit="GPU" if turns_s >= path_s else "token path",
        first_token_s=encode_s + prefill_s,
        tokens_per_s_each=traffic.output_tokens / (answer_s - own_s) if batch > 1 else 1 / step_s,
        sessions=(answer_s + traffic.think_s) / busy_s,
        audio_hours_per_hour=traffic.audio_s / busy_s,
    )


def measured_parts(report: Mapping[str, Any], gpu: Gpu, precision: str) -> Parts:
    """Take the fractions from the report.json of perf.acceptance.

    The encoder's arithmetic is that of its largest batch; the memory's bandwidth is that of one stream, which reads all
    weights once a token. Raises ValueError that names what the report lacks.
    """
    results = report.get("results", {})
    encoder = results.get("encoder.json")
    alone = next(
        (row for row in results.get("speed.json", ()) if row["streams"] == 1 and row["itl_ms"]), None
    )
    if not encoder or alone is None:
        missing = "encoder.json" if not encoder else "speed.json of one stream"
        raise ValueError(f"the report has no {missing}: run `make acceptance` to its end")
    windows = max(encoder, key=lambda row: row["windows"])
    return Parts(
        arithmetic=1e12 * windows["tflop_per_s"] / gpu.bf16_flop_s,
        bandwidth=weight_bytes(precision) / (alone["itl_ms"] / 1000) / gpu.bytes_s,
    )
