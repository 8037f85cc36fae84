"""Predicts a GPU's memory use before anything is built: python -m build_engines.memory_plan --target h100.

Long because the terms of one sum are read side by side.

Weights, prompt table and KV cache follow from shapes and are exact. Activations and contexts are high estimates, marked
so in the table: a plan that fits may waste a little memory but should not run out of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from af3.manifest import WINDOW_SECONDS
from build_engines.source import reach
from build_engines.stage import BuildError
from build_engines.targets import TARGETS
from build_engines.targets.target import (
    BITS_PER_WEIGHT,
    GIB,
    Target,
)

AUDIO_TOKENS_PER_WINDOW = WINDOW_SECONDS * reach.AUDIO_TOKENS_PER_SECOND
BF16_BYTES = 2
FP32_BYTES = 4
ENCODER_FRAMES_PER_WINDOW = 1500
MEL_FRAMES_PER_WINDOW = 3000
MEL_BINS = 128
WINDOW_SAMPLES = 480_000
LOG_MEL_BYTES = (402 * 480 + MEL_BINS * 201) * FP32_BYTES  # DFT and mel filters stay FP32

# TensorRT's kernels address a tensor with 32 bits (TensorRT #1948, #4408, TensorRT-LLM #2204, #2422).
MOST_ELEMENTS = (1 << 31) - 1

# After the LLM is loaded, its KV cache takes this share of the free memory: `kv_cache_free_gpu_mem_fraction` in
# llm/configs/gpu.pbtxt (a test compares them). The rest is for the encoder, which may load later.
KV_CACHE_FRACTION = 0.60
# `embedding_cache_mib` in audio_encoder/configs/gpu.pbtxt (a test compares them): 24 minutes of audio.
EMBEDDING_CACHE_BYTES = GIB // 4
CUDA_CONTEXT_BYTES = GIB // 2  # estimate: context and kernels of one process
# estimate: three engines of a VITS voice as large as facebook/mms-tts-eng. TensorRT for RTX reserves 0.43 GiB for them
# (`python -m tests.full_size --tensorrt`).
VOICE_BYTES = 3 * GIB // 4
LLM_RUNTIME_BYTES = GIB // 2  # estimate: sampling, logits, workspace and CUDA graphs of the executor
LENGTH_BYTES = 8  # int64, of pcm_lengths and of window_index

TEXT_TOKENS_OF_A_QUESTION = 128  # system turn, question and ChatML, for the table of concurrent requests
CLIP_SECONDS = (30, 120, 600, 1800)


@dataclass(frozen=True)
class Geometry:
    """The sizes in a checkpoint's config.json that decide its memory use."""

    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    encoder_hidden_size: int
    encoder_layers: int
    encoder_heads: int
    encoder_intermediate_size: int
    # RoTE: angles per audio token, and windows per clip; 0 without RoTE.
    rotation_angles: int = 0
    rotation_windows: int = 0

    @property
    def rotation_weights(self) -> int:
        """Elements of the encoder's tables of cosines and sines."""
        return 2 * self.rotation_windows * AUDIO_TOKENS_PER_WINDOW * self.rotation_angles

    @property
    def kv_bytes_per_token(self) -> int:
        """BF16 keys and values of all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BF16_BYTES

    @property
    def quantised_weights(self) -> int:
        """Elements of the linear layers in the blocks, which FP8, INT8 and INT4 shrink."""
        query, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden_size * (query + 2 * keys) + query * self.hidden_size
        return self.layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def bf16_weights(self) -> int:
        """Elements that stay BF16: embeddings, lm_head, norms and biases."""
        bias_and_norms = (self.heads + 2 * self.kv_heads) * self.head_dim + 2 * self.hidden_size
        return 2 * self.vocab_size * self.hidden_size + self.layers * bias_and_norms + self.hidden_size

    @property
    def llm_weights(self) -> int:
        return self.quantised_weights + self.bf16_weights

    @property
    def encoder_weights(self) -> int:
        """Elements of AF-Whisper and the adaptor."""
        d, ffn = self.encoder_hidden_size, self.encoder_intermediate_size
        block = 4 * d * d + 2 * d * ffn + ffn + 8 * d
        convolutions = 3 * MEL_BINS * d + 3 * d * d + 2 * d
        adaptor = d * self.hidden_size + self.hidden_size**2 + 2 * self.hidden_size
        return self.encoder_layers * block + convolutions + ENCODER_FRAMES_PER_WINDOW * d + 2 * d + adaptor


AUDIO_FLAMINGO_3 = Geometry(
    hidden_size=3584,
    layers=28,
    heads=28,
    kv_heads=4,
    head_dim=128,
    intermediate_size=18944,
    vocab_size=151672,
    encoder_hidden_size=1280,
    encoder_layers=32,
    encoder_heads=20,
    encoder_intermediate_size=5120,
)
# Audio Flamingo Next and Music Flamingo: the same with RoTE.
WITH_ROTATION = replace(AUDIO_FLAMINGO_3, rotation_angles=256, rotation_windows=60)


def published(known: reach.Reach) -> Geometry:
    """The sizes of NVIDIA's published checkpoints, with or without RoTE."""
    return WITH_ROTATION if known.rotates_by_time else AUDIO_FLAMINGO_3


def cuda_processes(compiled_voice: bool) -> tuple[str, ...]:
    """tritonserver with the LLM, the stub of audio_encoder, that of `tts` with a compiled voice, the MPS server."""
    return ("LLM", "encoder", "voice", "MPS") if compiled_voice else ("LLM", "encoder", "MPS")


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on one GPU. `kv_cache` is its fraction of the free memory, negative when nothing is left."""

    target: Target
    geometry: Geometry
    gpu_memory: int
    llm_weights: int
    prompt_table: int
    cuda_pool: int
    backend_copies: int
    llm_activations: int
    encoder_weights: int
    rotation_tables: int
    encoder_activations: int
    encoder_buffers: int
    embedding_cache: int
    voice: int
    contexts: int

    @property
    def free(self) -> int:
        llm = self.llm_weights + self.prompt_table + self.backend_copies + self.llm_activations
        return self.gpu_memory - llm - self.cuda_pool - self.encoder - self.voice - self.contexts

    @property
    def processes(self) -> tuple[str, ...]:
        """Those with a CUDA context."""
        return cuda_processes(self.voice > 0)

    @property
    def encoder(self) -> int:
        """Memory of the encoder's process without its CUDA context."""
        weights = self.encoder_weights + self.rotation_tables
        return weights + self.encoder_activations + self.encoder_buffers + self.embedding_cache

    @property
    def kv_cache(self) -> int:
        return int(self.free * KV_CACHE_FRACTION)

    @property
    def kv_tokens(self) -> int:
        return max(0, self.kv_cache) // self.geometry.kv_bytes_per_token

    def requests_at_once(self, clip_seconds: int) -> int:
        """How many requests with such a clip and the longest answer run at once before one must wait."""
        audio_tokens = clip_seconds * AUDIO_TOKENS_PER_WINDOW // 30
        tokens = audio_tokens + TEXT_TOKENS_OF_A_QUESTION + self.target.limits.max_output_tokens
        return min(self.target.limits.max_batch_size, self.kv_tokens // tokens)

    @property
    def shortage(self) -> str | None:
        """Why these limits do not fit, or None.

        The KV cache must hold one longest request. When the LLM loads before the encoder and the voice, its cache is a
        share of more memory, and the rest must still hold them.
        """
        elements = self.target.prompt_table_rows * self.geometry.hidden_size
        if elements > MOST_ELEMENTS:
            return (
                f"the prompt table would have {self.target.prompt_table_rows} rows of {self.geometry.hidden_size}, "
                f"{elements} elements, and TensorRT indexes {MOST_ELEMENTS}"
            )
        if self.kv_tokens < self.target.limits.max_sequence_tokens:
            return (
                f"the KV cache would hold {self.kv_tokens} tokens, fewer than the "
                f"{self.target.limits.max_sequence_tokens} of one longest request (max_sequence_tokens)"
            )
        later, names = self.encoder + CUDA_CONTEXT_BYTES, "the audio encoder needs"
        if self.voice:
            later, names = later + self.voice + CUDA_CONTEXT_BYTES, "the audio encoder and the voice need"
        left = int((self.free + later) * (1 - KV_CACHE_FRACTION))
        if left < later:
            return f"{names} {amount(later)}, and the KV cache leaves {amount(left)} when the LLM loads first"
        return None


def plan(
    target: Target, geometry: Geometry, gpu_memory: int | None = None, *, compiled_voice: bool = False
) -> MemoryPlan:
    """Compute the plan for a target. gpu_memory: bytes, by default the target's.

    compiled_voice: the server has a VITS voice, which TensorRT runs; every other voice runs on the CPU.
    """
    bits = BITS_PER_WEIGHT[target.llm_precision]
    weights = geometry.quantised_weights * bits // 8 + geometry.bf16_weights * BF16_BYTES
    table = target.prompt_table_rows * geometry.hidden_size * BF16_BYTES
    return MemoryPlan(
        target=target,
        geometry=geometry,
        gpu_memory=target.gpu.memory_bytes if gpu_memory is None else gpu_memory,
        llm_weights=weights,
        prompt_table=table,
        # Until its last token, a running request's audio also occupies the ensemble's tensor (in Triton's CUDA pool)
        # and the backend's copy of it, beside its slot in the LLM's table.
        cuda_pool=table,
        backend_copies=table,
        llm_activations=prefill_bytes(target.max_num_tokens, geometry) + LLM_RUNTIME_BYTES,
        encoder_weights=geometry.encoder_weights * BF16_BYTES + LOG_MEL_BYTES,
        rotation_tables=geometry.rotation_weights * BF16_BYTES,
        encoder_activations=encoder_bytes(target.encoder_windows, geometry),
        encoder_buffers=buffer_bytes(target.encoder_windows, geometry),
        embedding_cache=EMBEDDING_CACHE_BYTES,
        voice=VOICE_BYTES if compiled_voice else 0,
        contexts=len(cuda_processes(compiled_voice)) * CUDA_CONTEXT_BYTES,
    )


def require_fit(memory: MemoryPlan) -> None:
    """Raise BuildError when the plan does not fit; the message says which limit to lower and to what."""
    if memory.shortage is None:
        return
    target = memory.target
    remedy = _smaller_limit(memory)
    where = f"build_engines/targets/{target.name}.py"
    raise BuildError(
        f"{target.name} with {target.llm_precision} weights does not fit {amount(memory.gpu_memory)}: "
        f"{memory.shortage}. "
        + (_lower(remedy, where) if remedy else _no_limit_helps(target))
        + (", or take VOICE=kokoro, which runs on the CPU" if memory.voice else "")
    )


def describe(memory: MemoryPlan) -> str:
    """The plan as a table for the terminal."""
    target, geometry = memory.target, memory.geometry
    limits = target.limits
    kv_kib = geometry.kv_bytes_per_token / 1024
    table = f"{limits.max_batch_size} slots x {limits.max_audio_tokens} rows x {geometry.hidden_size} x 2 B"
    rows = [
        ("LLM weights", memory.llm_weights, f"{target.llm_precision}; embeddings and lm_head BF16"),
        ("prompt table", memory.prompt_table, table),
        ("CUDA pool", memory.cuda_pool, "of Triton: the audio of all slots on its way to the LLM"),
        ("backend's copies", memory.backend_copies, "of the same audio, until the last token"),
        (
            "LLM activations",
            memory.llm_activations,
            f"estimate, {target.max_num_tokens} tokens a step, and the executor's workspace",
        ),
        ("encoder weights", memory.encoder_weights, "BF16"),
        ("rotation tables", memory.rotation_tables, f"RoTE, {geometry.rotation_windows} windows, BF16"),
        (
            "encoder activations",
            memory.encoder_activations,
            f"estimate, {target.encoder_windows} windows a call, workspace among them",
        ),
        ("encoder buffers", memory.encoder_buffers, "samples and embeddings of one call"),
        ("embedding cache", memory.embedding_cache, "clips heard before, at most"),
        ("voice", memory.voice, "estimate, a compiled VITS voice" if memory.voice else "runs on the CPU"),
        (
            "CUDA contexts",
            memory.contexts,
            f"estimate, {len(memory.processes)} processes: {', '.join(memory.processes)}",
        ),
        (
            "KV cache",
            memory.kv_cache,
            f"{KV_CACHE_FRACTION:.0%} of the rest: {memory.kv_tokens} tokens of {kv_kib:g} KiB",
        ),
    ]
    lines = [f"memory plan: {target.name}, {amount(memory.gpu_memory)} on the GPU"]
    lines += [f"  {name:<20}{amount(size):>10}  {note}" for name, size, note in rows]
    lines.append(f"requests at once (max_batch_size {limits.max_batch_size}, longest answers):")
    heard = [seconds for seconds in CLIP_SECONDS if seconds <= limits.max_clip_seconds]
    lines += [f"  {_clip(seconds):<20}{memory.requests_at_once(seconds):>6}" for seconds in heard]
    return "\n".join(lines)


def prefill_bytes(tokens: int, geometry: Geometry) -> int:
    """Live tensors of one prefill step: residual and norms, QKV, the two halves of the MLP and their product."""
    qkv = (geometry.heads + 2 * geometry.kv_heads) * geometry.head_dim
    per_token = 4 * geometry.hidden_size + qkv + 3 * geometry.intermediate_size
    return tokens * per_token * BF16_BYTES


def encoder_bytes(windows: int, geometry: Geometry) -> int:
    """Tensors of one layer and of the first convolution, with FP32 attention scores as if nothing were fused."""
    scores = geometry.encoder_heads * ENCODER_FRAMES_PER_WINDOW**2 * FP32_BYTES
    layer = ENCODER_FRAMES_PER_WINDOW * (
        geometry.encoder_intermediate_size + 6 * geometry.encoder_hidden_size
    )
    convolution = MEL_FRAMES_PER_WINDOW * geometry.encoder_hidden_size
    return windows * (scores + (layer + convolution) * BF16_BYTES)


def buffer_bytes(windows: int, geometry: Geometry) -> int:
    """Buffers that TensorRTEncoder allocates at start: samples, lengths and window indices in, embeddings out."""
    embeddings = AUDIO_TOKENS_PER_WINDOW * geometry.hidden_size * BF16_BYTES
    return windows * (WINDOW_SAMPLES * FP32_BYTES + 2 * LENGTH_BYTES + embeddings)


def _smaller_limit(memory: MemoryPlan) -> str | None:
    """Find the first limit that makes the plan fit when lowered alone, and its largest fitting value."""
    target = memory.target

    def fits(candidate: Target) -> bool:
        voice = memory.voice > 0
        return plan(candidate, memory.geometry, memory.gpu_memory, compiled_voice=voice).shortage is None

    for slots in range(target.limits.max_batch_size - 1, 0, -1):
        limits = target.limits.model_copy(update={"max_batch_size": slots})
        if fits(replace(target, limits=limits)):
            return f"max_batch_size from {target.limits.max_batch_size} to {slots}"
    for windows in range(target.encoder_windows - 1, 0, -1):
        if fits(replace(target, encoder_windows=windows)):
            return f"encoder_windows from {target.encoder_windows} to {windows}"
    for windows in range(target.limits.max_windows_per_clip - 1, 0, -1):
        if fits(_shorter(target, windows)):
            return f"the audio of a request: AUDIO={windows * WINDOW_SECONDS}"
    return None


def _shorter(target: Target, windows: int) -> Target:
    """The target for requests of `windows` windows, with as many slots as fill the same table."""
    limits = target.limits
    tokens = windows * AUDIO_TOKENS_PER_WINDOW
    less = {
        "max_windows_per_clip": windows,
        "max_audio_tokens": tokens,
        "max_sequence_tokens": limits.max_sequence_tokens - (limits.max_audio_tokens - tokens),
        "max_batch_size": min(target.most_requests, max(1, target.table_rows // tokens)),
    }
    return replace(target, limits=limits.model_copy(update=less))


def _lower(remedy: str, where: str) -> str:
    return f"Lower {remedy}" if "AUDIO=" in remedy else f"In {where}, lower {remedy}"


def _no_limit_helps(target: Target) -> str:
    now = BITS_PER_WEIGHT[target.llm_precision]
    smaller = [name for name, bits in BITS_PER_WEIGHT.items() if bits < now and target.can_run(name)]
    precision = f"PRECISION={' or '.join(smaller)}, or " if smaller else ""
    return f"Lowering one limit is not enough; use {precision}a GPU with more memory"


def amount(size: int) -> str:
    """In GiB; in MiB what would be 0.0 of them, as the parts of a tiny model."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.1f} MiB"


def _clip(seconds: int) -> str:
    return f"{seconds} s clips" if seconds < 60 else f"{seconds // 60} min clips"


def plan_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """The command line of a memory plan, with `--checkpoint`."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument(
        "--checkpoint", default="nvidia/audio-flamingo-3-hf", help="hub id; default: %(default)s"
    )
    return parser


def print_plan(table: str, require: Callable[[], None]) -> None:
    """Print the plan; exit with `require`'s error if it does not fit."""
    print(table)
    try:
        require()
    except BuildError as error:
        sys.exit(f"error: {error}")


def main() -> None:
    parser = plan_parser("build_engines.memory_plan", __doc__)
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--precision", help="precision of the LLM (default: the target's)")
    parser.add_argument(
        "--audio-seconds", type=int, help="longest audio of a request (default: the model's limit)"
    )
    parser.add_argument("--gpu-gib", type=float, help="memory of the GPU (default: the target's)")
    arguments = parser.parse_args()
    target = TARGETS[arguments.target]
    known = reach.published(arguments.checkpoint)
    try:
        if arguments.precision:
            target = target.with_precision(arguments.precision)
        target = target.hearing(known, arguments.audio_seconds)
    except BuildError as error:
        sys.exit(f"error: {error}")
    gpu_memory = int(arguments.gpu_gib * GIB) if arguments.gpu_gib else None
    memory = plan(target, published(known), gpu_memory)
    print_plan(describe(memory), partial(require_fit, memory))


if __name__ == "__main__":
    main()
