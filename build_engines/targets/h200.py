"""NVIDIA H200 141 GB: as the H100, with twice the requests."""

from build_engines.targets.target import GIB, Gpu, Target, limits

TARGET = Target(
    name="h200",
    gpu=Gpu("H200", compute_capability=(9, 0), memory_bytes=int(140.4 * GIB)),
    llm_precision="fp8",
    limits=limits(max_batch_size=128),
    max_num_tokens=16384,  # ten minutes of audio (15 000 tokens) in one prefill step
    encoder_windows=20,
)
