"""Loads the LLM engine for a config's `engine`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from af3.llm.block_keys import BLOCK_TOKENS
from af3.llm.decoder import Decoder
from af3.llm.interface import Engine, Observer
from af3.llm.scheduler import Scheduler
from af3.llm.vllm_engine import REPOSITORY, VllmEngine
from af3.llm.vllm_wire import EngineSettings
from af3.manifest import ADAPTERS_FOLDER, Manifest, ManifestError, ModelFacts

VLLM = "vllm"
KV_ITEM_BYTES = 4  # float32, of the ONNX decoder
# Precision of the manifest → dtype and quantisation in vLLM.
# Packed weights are multiplied in BF16, whatever dtype their scales are stored in: Qwen2.5 overflows FP16.
VLLM_PRECISIONS = {"fp32": ("float32", None), "bf16": ("bfloat16", None)} | {
    quantised: ("bfloat16", quantised) for quantised in ("fp8", "awq", "gptq", "compressed-tensors")
}
DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
VLLM_BLOCK_TOKENS = 128  # of vLLM's KV cache on a CPU


class Settings(Protocol):
    """The parameters of the config; `serving.steps.settings.LlmSettings` documents them."""

    engine_dir: Path
    engine: str
    slots: int
    max_queue: int
    prefill_tokens: int
    threads: int
    python: Path
    gpu_memory_fraction: float
    tensor_parallel: int
    kv_cache_gib: float

    @property
    def prefix_cache_bytes(self) -> int: ...


def load_engine(settings: Settings, observer: Observer) -> Engine:
    """Load from `engines/<target>/llm/`. Blocks until it is ready."""
    manifest = Manifest.read(settings.engine_dir)
    if settings.engine == VLLM:
        python = REPOSITORY / settings.python
        return VllmEngine(python, manifest, vllm_settings(manifest, settings), settings.max_queue, observer)
    limit = manifest.limits.max_sequence_tokens
    _check_prefix_cache(settings.prefix_cache_bytes, manifest.model)
    decoder = Decoder(settings.engine_dir / "llm", settings.slots, limit, settings.threads)
    return Scheduler(
        decoder,
        settings.max_queue,
        settings.prefill_tokens,
        observer.counts,
        observer.turned,
        observer.stats,
        settings.prefix_cache_bytes,
    )


def _check_prefix_cache(most_bytes: int, model: ModelFacts) -> None:
    block_bytes = BLOCK_TOKENS * 2 * model.layers * model.kv_heads * model.head_dim * KV_ITEM_BYTES
    if 0 < most_bytes < block_bytes:
        raise ManifestError(
            f"prefix_cache_mib {most_bytes >> 20} holds no block of {BLOCK_TOKENS} tokens, which has"
            f" {block_bytes / (1 << 20):.1f} MiB with these engines; raise it, or set 0 for no cache"
        )


def vllm_settings(manifest: Manifest, settings: Settings) -> EngineSettings:
    """Build vLLM's settings: device and precision from the manifest, everything else from the config.

    A CPU's KV cache has room for at least the longest request; vLLM does not start otherwise.
    """
    dtype, quantization = VLLM_PRECISIONS[manifest.precision.llm]
    folder = settings.engine_dir.absolute()
    return EngineSettings(
        model=str(folder / "llm"),
        device=manifest.device,
        dtype=dtype,
        quantization=quantization,
        max_sequence_tokens=manifest.limits.max_sequence_tokens,
        slots=settings.slots,
        prefill_tokens=settings.prefill_tokens,
        kv_cache_gib=max(settings.kv_cache_gib, longest_kv_gib(manifest)),
        gpu_memory_fraction=settings.gpu_memory_fraction,
        tensor_parallel=settings.tensor_parallel,
        threads=settings.threads,
        adapters={name: str(folder / ADAPTERS_FOLDER / name) for name in manifest.adapters},
    )


def longest_kv_gib(manifest: Manifest) -> float:
    """Keys and values of one request of the greatest length, in vLLM's blocks and with the one it keeps empty."""
    model = manifest.model
    blocks = -(-manifest.limits.max_sequence_tokens // VLLM_BLOCK_TOKENS) + 1
    width = DTYPE_BYTES[VLLM_PRECISIONS[manifest.precision.llm][0]]
    return blocks * VLLM_BLOCK_TOKENS * 2 * model.layers * model.kv_heads * model.head_dim * width / 2**30
