"""NVIDIA H100 80 GB: FP8 weights and activations, BF16 KV cache."""

from build_engines.targets.target import target

TARGET = target(
    "h100",
    79.6,
    "fp8",
    table_rows=480_000,
    most_requests=128,
    max_num_tokens=16384,  # ten minutes of audio (15 000 tokens) in one prefill step
    encoder_windows=20,
)
