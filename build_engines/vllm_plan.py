"""Predicts a GPU's memory use with the LLM on vLLM: python -m build_engines.vllm_plan --target any --gpu-gib 24.

vLLM fills a fixed share of the GPU with weights, KV cache and workspace; the audio encoder gets the rest. There is no
prompt table or pool: embeddings pass through the host, and a request waits when the KV cache is full.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from build_engines.memory_plan import (
    BF16_BYTES,
    CLIP_SECONDS,
    CUDA_CONTEXT_BYTES,
    EMBEDDING_CACHE_BYTES,
    FP32_BYTES,
    TEXT_TOKENS_OF_A_QUESTION,
    Geometry,
    amount,
    buffer_bytes,
    encoder_bytes,
    plan_parser,
    prefill_bytes,
    print_plan,
    published,
)
from build_engines.source import reach
from build_engines.source.quantised import METHODS, usual
from build_engines.stage import BuildError
from build_engines.targets.target import GIB
from serving.machine.doctor_vllm import CAPABILITY
from serving.machine.known_gpus import runs_tensorrt_rtx

CONFIG = Path(__file__).resolve().parents[1] / "model_repository" / "llm" / "configs" / "vllm.pbtxt"
# Of one weight of a linear layer. Packed ones as they usually are; of a checkpoint that is here the bytes are counted.
BITS = {"bf16": 16.0, "fp8": 8.0} | {method: usual(method).bits_per_weight for method in METHODS}
USUAL_GPUS_BYTES = (24 * GIB, 80 * GIB)  # memory of common GPUs, to plan for a machine without one
RTX_WINDOWS = 4  # per call of the encoder that TensorRT for RTX compiles
GRAPH_BYTES = GIB  # estimate: vLLM's CUDA graphs, workspace and NCCL


@dataclass(frozen=True)
class VllmPlan:
    """Bytes on one GPU."""

    target: str
    precision: str
    known: reach.Reach
    geometry: Geometry
    gpu_memory: int
    share: float
    llm_weights: int
    llm_work: int
    encoder: int

    @property
    def kv_cache(self) -> int:
        """What remains of vLLM's share; negative when the share is too small."""
        return int(self.gpu_memory * self.share) - self.llm_weights - self.llm_work

    @property
    def kv_tokens(self) -> int:
        return max(0, self.kv_cache) // self.geometry.kv_bytes_per_token

    @property
    def rest(self) -> int:
        return self.gpu_memory - int(self.gpu_memory * self.share)

    def requests_at_once(self, clip_seconds: int) -> int:
        """How many requests with such a clip and the longest answer fit the KV cache; more wait or are preempted."""
        tokens = (
            clip_seconds * reach.AUDIO_TOKENS_PER_SECOND
            + TEXT_TOKENS_OF_A_QUESTION
            + self.known.answer_tokens
        )
        return min(int(_setting("slots")), self.kv_tokens // tokens)

    @property
    def shortage(self) -> str | None:
        """Why this does not fit, or None."""
        if self.encoder > self.rest:
            return f"the audio encoder takes {amount(self.encoder)}, and vLLM leaves {amount(self.rest)}"
        longest = self.known.limits(1).max_sequence_tokens
        if self.kv_tokens < longest:
            return f"the KV cache would hold {self.kv_tokens} tokens, fewer than the {longest} of one longest request"
        return None

    @property
    def remedy(self) -> str:
        """Single changes that would make it fit."""
        share = int(100 * (1 - self.encoder / self.gpu_memory)) / 100
        setting = f"gpu_memory_fraction {share:g} in model_repository/llm/configs/{CONFIG.name}"
        ways = {setting: replace(self, share=share)}
        if self.precision == "bf16":
            weights = self.llm_weights - self.geometry.quantised_weights
            fp8 = replace(self, precision="fp8", llm_weights=weights)
            both = {f"PRECISION=fp8 and {setting}": replace(fp8, share=share)}
            ways = {"PRECISION=fp8": fp8, **ways, **both}
        helping = [way for way, changed in ways.items() if changed.shortage is None]
        return " or ".join([*helping[:2], "a GPU with more memory"])


def plan(
    target: str,
    precision: str,
    gpu_memory: int,
    known: reach.Reach,
    geometry: Geometry | None = None,
    share: float | None = None,
    llm_weights: int | None = None,
) -> VllmPlan:
    """Compute the plan for `any` (encoder on ONNX Runtime, FP32) or `rtx` (TensorRT for RTX, BF16).

    geometry: None for NVIDIA's published checkpoint. share: None for the config's value. llm_weights: bytes, None for
    those of the precision.
    """
    geometry = geometry or published(known)
    windows, width = (RTX_WINDOWS, BF16_BYTES) if target == "rtx" else (1, FP32_BYTES)
    activations = encoder_bytes(windows, geometry) * width // BF16_BYTES
    weights = (geometry.encoder_weights + geometry.rotation_weights) * width
    held = weights + activations + buffer_bytes(windows, geometry) + CUDA_CONTEXT_BYTES
    return VllmPlan(
        target=target,
        precision=precision,
        known=known,
        geometry=geometry,
        gpu_memory=gpu_memory,
        share=configured_share() if share is None else share,
        llm_weights=llm_bytes(geometry, BITS[precision]) if llm_weights is None else llm_weights,
        llm_work=prefill_bytes(int(_setting("prefill_tokens")), geometry) + GRAPH_BYTES + CUDA_CONTEXT_BYTES,
        encoder=held + (EMBEDDING_CACHE_BYTES if target == "rtx" else 0),
    )


def llm_bytes(geometry: Geometry, bits: float) -> int:
    """Bytes of an LLM with so many bits for a weight of a linear layer; everything else is BF16."""
    return int(geometry.quantised_weights * bits / 8) + geometry.bf16_weights * BF16_BYTES


def configured_share() -> float:
    return float(_setting("gpu_memory_fraction"))


def describe(memory: VllmPlan) -> str:
    """The plan as a table for the terminal."""
    kv_kib = memory.geometry.kv_bytes_per_token / 1024
    rows = [
        ("LLM weights", memory.llm_weights, f"{memory.precision}; embeddings and lm_head BF16"),
        ("LLM activations", memory.llm_work, "estimate, with CUDA graphs and context"),
        (
            "KV cache",
            memory.kv_cache,
            f"the rest of vLLM's {memory.share:.0%}: {memory.kv_tokens} tokens of {kv_kib:g} KiB",
        ),
        ("encoder", memory.encoder, "weights, activations (estimate), buffers, CUDA context"),
        ("left", memory.rest - memory.encoder, "for a desktop, and for what the estimates missed"),
    ]
    lines = [f"memory plan: {memory.target}, {amount(memory.gpu_memory)} on the GPU"]
    lines += [f"  {name:<20}{amount(size):>10}  {note}" for name, size, note in rows]
    lines.append("requests at once (longest answers):")
    heard = [seconds for seconds in CLIP_SECONDS if seconds <= memory.known.clip_seconds]
    lines += [f"  {seconds:>5} s of audio    {memory.requests_at_once(seconds):>6}" for seconds in heard]
    if memory.shortage is not None:
        lines.append(f"  does not fit: {memory.shortage}; use {memory.remedy}")
    return "\n".join(lines)


def require_fit(memory: VllmPlan) -> None:
    """Raise BuildError when the plan does not fit; the message says what to change."""
    if memory.shortage is not None:
        raise BuildError(
            f"{memory.target} with {memory.precision} weights does not fit {amount(memory.gpu_memory)}:"
            f" {memory.shortage}; use {memory.remedy}"
        )


def require_bf16(name: str, compute_capability: str) -> None:
    """Raise BuildError for a GPU on which vLLM refuses BF16."""
    if tuple(map(int, compute_capability.split("."))) < CAPABILITY:
        raise BuildError(
            f"the LLM is served in BF16, for which vLLM needs compute capability 8.0, and the {name} has"
            f" {compute_capability}; use GPU=cpu or another GPU"
        )


def require_rtx(name: str, compute_capability: str) -> None:
    """Raise BuildError for a GPU that TensorRT for RTX does not support."""
    major, minor = map(int, compute_capability.split("."))
    if not runs_tensorrt_rtx((major, minor)):
        raise BuildError(
            f"GPU=rtx: TensorRT for RTX runs on compute capability 7.5, 8.x and 12.x, and the {name} has"
            f" {compute_capability}; use GPU=any"
        )


def _setting(name: str) -> str:
    found = re.search(
        rf'key: "{name}" value: {{ string_value: "([^"]+)" }}', CONFIG.read_text(encoding="utf-8")
    )
    assert found is not None  # a test reads the same file with Triton's parser
    return found[1]


def main() -> None:
    parser = plan_parser("build_engines.vllm_plan", __doc__)
    parser.add_argument("--target", choices=["any", "rtx"], default="any", help="default: %(default)s")
    parser.add_argument("--precision", choices=list(BITS), default="bf16", help="default: %(default)s")
    parser.add_argument("--gpu-gib", type=float, required=True, help="memory of the GPU")
    arguments = parser.parse_args()
    known = reach.published(arguments.checkpoint)
    memory = plan(arguments.target, arguments.precision, int(arguments.gpu_gib * GIB), known)
    print_plan(describe(memory), partial(require_fit, memory))


if __name__ == "__main__":
    main()
