"""NVIDIA L40S 48 GB: FP8 (Ada), fewer requests, and longer prompts in several prefill steps."""

from build_engines.targets.target import GIB, Gpu, Target, limits

TARGET = Target(
    name="l40s",
    gpu=Gpu("L40S", compute_capability=(8, 9), memory_bytes=int(44.9 * GIB)),
    llm_precision="fp8",
    limits=limits(max_batch_size=24),
    max_num_tokens=8192,
    encoder_windows=8,
)
