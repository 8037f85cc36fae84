"""NVIDIA L40S 48 GB: FP8 (Ada), fewer requests, and longer prompts in several prefill steps."""

from build_engines.targets.target import target

TARGET = target(
    "l40s",
    44.9,
    "fp8",
    table_rows=360_000,
    most_requests=64,
    max_num_tokens=8192,
    encoder_windows=8,
)
