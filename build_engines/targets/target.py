"""Targets: the hardware, precision and limits of a set of engines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from af3.manifest import Limits
from build_engines.source.reach import AUDIO_FLAMINGO_3, Reach
from build_engines.stage import BuildError
from serving.machine.known_gpus import GPUS, KnownGpu

GIB = 1 << 30

FP8_SINCE = (8, 9)  # Ada and Hopper; an A100 (8.0) has no FP8 tensor cores

Name = Literal["h100", "h200", "a100", "l40s", "l4", "a10g", "rtx4090"]
Precision = Literal["fp8", "bf16", "int8", "int4"]
BITS_PER_WEIGHT: dict[Precision, int] = {"fp8": 8, "bf16": 16, "int8": 8, "int4": 4}


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi describes it, with its total memory."""

    known: KnownGpu
    memory_bytes: int

    @property
    def has_fp8(self) -> bool:
        return self.known.compute_capability >= FP8_SINCE


@dataclass(frozen=True)
class Target:
    """A target. `limits` go to trtllm-build, the encoder's profiles, the manifest and `preprocess`: change them here.

    table_rows: most rows of the LLM's prompt table. Each running request has a slot for the longest audio it may have,
    so the table holds few requests of ten minutes or many short ones (`hearing`).
    most_requests: most concurrent requests, however short. max_num_tokens: tokens of one prefill step.
    encoder_windows: 30 s windows of one encoder call.
    """

    name: Name
    gpu: Gpu
    llm_precision: Precision
    table_rows: int
    most_requests: int
    max_num_tokens: int
    encoder_windows: int
    limits: Limits

    @property
    def prompt_table_rows(self) -> int:
        """Rows of the engine's prompt table: max_batch_size slots."""
        return self.limits.max_audio_tokens * self.limits.max_batch_size

    def hearing(self, reach: Reach, seconds: int | None = None) -> Target:
        """This target for a checkpoint with these limits.

        seconds: longest audio of a request, rounded up to whole windows; None: the model's limit. The longer a request
        may be, the fewer run together. Raises BuildError when `seconds` exceeds the model's limit.
        """
        seconds = reach.clip_seconds if seconds is None else seconds
        if not 0 < seconds <= reach.clip_seconds:
            raise BuildError(f"AUDIO={seconds}: a request may have 1 to {reach.clip_seconds} s of audio")
        slots = _slots(reach, seconds, self.table_rows, self.most_requests)
        return replace(self, limits=reach.limits(slots, seconds))

    def can_run(self, precision: Precision) -> bool:
        return precision != "fp8" or self.gpu.has_fp8

    def with_precision(self, precision: str) -> Target:
        """This target with another LLM precision. Raises BuildError when the GPU or the builder lacks it."""
        known = next((name for name in BITS_PER_WEIGHT if name == precision), None)
        if known is None:
            raise BuildError(f"PRECISION={precision}: {self.name} supports {', '.join(BITS_PER_WEIGHT)}")
        if not self.can_run(known):
            raise BuildError(
                f"PRECISION=fp8: {self.name} has compute capability "
                f"{'.'.join(map(str, self.gpu.known.compute_capability))} and no FP8 (8.9 and later have); "
                "use PRECISION=bf16, int8 or int4"
            )
        return replace(self, llm_precision=known)


def target(
    name: Name,
    memory_gib: float,
    llm_precision: Precision,
    *,
    table_rows: int,
    most_requests: int,
    max_num_tokens: int,
    encoder_windows: int,
) -> Target:
    """Make a target for requests with Audio Flamingo 3's longest audio."""
    return Target(
        name=name,
        gpu=Gpu(GPUS[name], int(memory_gib * GIB)),
        llm_precision=llm_precision,
        table_rows=table_rows,
        most_requests=most_requests,
        max_num_tokens=max_num_tokens,
        encoder_windows=encoder_windows,
        limits=AUDIO_FLAMINGO_3.limits(
            _slots(AUDIO_FLAMINGO_3, AUDIO_FLAMINGO_3.clip_seconds, table_rows, most_requests)
        ),
    )


def _slots(reach: Reach, seconds: int, table_rows: int, most_requests: int) -> int:
    """Requests that fit the prompt table at once; a slot holds all audio of one request."""
    return max(1, min(most_requests, table_rows // reach.limits(1, seconds).max_audio_tokens))
