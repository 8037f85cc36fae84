"""NVIDIA GeForce RTX 4090 24 GB: FP8 (Ada), a few requests. A desktop on the same card uses some of its memory."""

from build_engines.targets.target import target

TARGET = target(
    "rtx4090",
    23.5,
    "fp8",
    table_rows=120_000,
    most_requests=24,
    max_num_tokens=4096,
    encoder_windows=4,
)
