"""NVIDIA A10G 24 GB: no FP8, and BF16 weights would leave no room for a KV cache: INT8, weight-only."""

from build_engines.targets.target import target

TARGET = target(
    "a10g",
    22.4,
    "int8",
    table_rows=120_000,
    most_requests=24,
    max_num_tokens=4096,
    encoder_windows=4,
)
