"""NVIDIA H100 80 GB: FP8 weights and activations, BF16 KV cache."""

from build_engines.targets.target import GIB, Gpu, Target, limits

TARGET = Target(
    name="h100",
    gpu=Gpu("H100", compute_capability=(9, 0), memory_bytes=int(79.6 * GIB)),
    llm_precision="fp8",
    limits=limits(max_batch_size=64),
    max_num_tokens=16384,  # ten minutes of audio (15 000 tokens) in one prefill step
    encoder_windows=20,
)
