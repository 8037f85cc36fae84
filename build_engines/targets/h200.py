"""NVIDIA H200 141 GB: like the H100, with the largest prompt table that TensorRT can index and more short requests."""

from build_engines.targets.target import target

TARGET = target(
    "h200",
    140.4,
    "fp8",
    table_rows=570_000,
    most_requests=256,
    max_num_tokens=16384,  # ten minutes of audio (15 000 tokens) in one prefill step
    encoder_windows=20,
)
