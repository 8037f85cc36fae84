"""NVIDIA A100 80 GB: no FP8, so BF16; PRECISION=int8 or int4 stores smaller weights (weight-only)."""

from build_engines.targets.target import target

TARGET = target(
    "a100",
    79.2,
    "bf16",
    table_rows=480_000,
    most_requests=96,
    max_num_tokens=16384,  # ten minutes of audio (15 000 tokens) in one prefill step
    encoder_windows=20,
)
