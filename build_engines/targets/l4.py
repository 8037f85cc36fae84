"""NVIDIA L4 24 GB: FP8 (Ada), a few requests."""

from build_engines.targets.target import target

TARGET = target(
    "l4",
    22.4,
    "fp8",
    table_rows=120_000,
    most_requests=24,
    max_num_tokens=4096,
    encoder_windows=4,
)
