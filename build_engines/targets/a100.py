"""NVIDIA A100 80 GB: no FP8, so BF16; PRECISION=int8 or int4 stores the weights smaller (weight-only)."""

from build_engines.targets.target import GIB, Gpu, Target, limits

TARGET = Target(
    name="a100",
    gpu=Gpu("A100", compute_capability=(8, 0), memory_bytes=int(79.2 * GIB)),
    llm_precision="bf16",
    limits=limits(max_batch_size=48),
    max_num_tokens=16384,  # ten minutes of audio (15 000 tokens) in one prefill step
    encoder_windows=20,
)
