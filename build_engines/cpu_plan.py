"""What a CPU will hold: weights as they are stored, and the keys and values of requests."""

from __future__ import annotations

from build_engines.memory_plan import BF16_BYTES, FP32_BYTES, Geometry, amount
from build_engines.source.reach import Reach
from build_engines.weight_block import SIZES, block_size, encoder_precision


def llm_bytes(geometry: Geometry, precision: str) -> int:
    """Weights of the LLM and its embedding table, which stays FP32 beside INT4."""
    table = geometry.vocab_size * geometry.hidden_size
    rest = geometry.llm_weights - 2 * table - geometry.quantised_weights  # norms and biases
    wide = BF16_BYTES if precision == "bf16" else FP32_BYTES
    matrices = int((geometry.quantised_weights + table) * _weight_bytes(geometry, precision))
    return matrices + (table + rest) * wide


def _weight_bytes(geometry: Geometry, precision: str) -> float:
    """Of one weight of a matrix."""
    int4 = 1 / 2 + FP32_BYTES / block_size(geometry.hidden_size)
    return {"fp32": FP32_BYTES, "bf16": BF16_BYTES, "int4": int4}[precision]


def encoder_bytes(geometry: Geometry, precision: str = "fp32") -> int:
    """AF-Whisper and adaptor, FP32 or INT8 (what is no matrix product stays FP32, a hundredth of it)."""
    int8 = 1 + FP32_BYTES / SIZES[0]
    return int(geometry.encoder_weights * {"fp32": FP32_BYTES, "int8": int8}[precision])


def kv_bytes(geometry: Geometry, precision: str, tokens: int) -> int:
    """Keys and values of so many tokens of one request."""
    width = FP32_BYTES if precision in ("fp32", "int4") else BF16_BYTES
    return tokens * geometry.kv_bytes_per_token * width // BF16_BYTES


def describe(geometry: Geometry, known: Reach, precision: str, llm_weights: int | None = None) -> str:
    """The plan as a table for the terminal. llm_weights: bytes, None for those of the precision."""
    weights = llm_bytes(geometry, precision) if llm_weights is None else llm_weights
    beside = encoder_precision(precision)
    longest = known.limits(1).max_sequence_tokens
    rows = [
        ("LLM weights", weights, precision),
        ("encoder", encoder_bytes(geometry, beside), beside),
        ("KV cache", kv_bytes(geometry, precision, longest), f"of the longest request, {longest} tokens"),
    ]
    lines = ["memory plan: a CPU"]
    lines += [f"  {name:<20}{amount(size):>10}  {note}" for name, size, note in rows]
    if precision == "fp32":
        lines.append(
            f"  with PRECISION=int4 the LLM takes {amount(llm_bytes(geometry, 'int4'))} (ONNX Runtime)"
        )
    return "\n".join(lines)
