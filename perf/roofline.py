"""Predicts what one GPU carries: time is the larger of arithmetic and memory traffic, each at a fraction of its peak.

Nothing here was measured on a GPU. `measured_parts` takes the fractions from a report of perf.acceptance instead.
"""

from __future__ import annotations

from dataclasses import dataclass

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
