"""What one GPU is asked to hold: a target names the hardware, the precision and the limits of its engines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from af3.contract import MAX_NEW_TOKENS, MAX_TEXT_TOKENS
from af3.manifest import Limits
from build_engines.stage import BuildError

GIB = 1 << 30

MAX_WINDOWS_PER_CLIP = 20  # 600 s; longer clips are refused, as nobody trained the model on them
AUDIO_TOKENS_PER_WINDOW = 750
FP8_SINCE = (8, 9)  # Ada and Hopper; an A100 (8.0) has no FP8 tensor cores

Name = Literal["h100", "h200", "l40s", "a100"]
Precision = Literal["fp8", "bf16", "int8", "int4"]
BITS_PER_WEIGHT: dict[Precision, int] = {"fp8": 8, "bf16": 16, "int8": 8, "int4": 4}


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi describes it. `name_part`: what its product name contains."""

    name_part: str
    compute_capability: tuple[int, int]
    memory_bytes: int

    @property
    def has_fp8(self) -> bool:
        return self.compute_capability >= FP8_SINCE


@dataclass(frozen=True)
class Target:
    """`limits` reach trtllm-build, the encoder's profiles, the manifest and `preprocess`: change them
    here only.

    max_num_tokens: tokens of one prefill step. encoder_windows: 30 s windows of one encoder call.
    """

    name: Name
    gpu: Gpu
    llm_precision: Precision
    limits: Limits
    max_num_tokens: int
    encoder_windows: int

    @property
    def prompt_table_rows(self) -> int:
        """Rows of the engine's prompt table. A request may use rows / max_batch_size of them: its own
        slot.
        """
        return self.limits.max_audio_tokens * self.limits.max_batch_size

    def can_run(self, precision: Precision) -> bool:
        return precision != "fp8" or self.gpu.has_fp8

    def with_precision(self, precision: str) -> Target:
        """This target with another LLM precision; BuildError where the GPU or the builder lacks it."""
        known = next((name for name in BITS_PER_WEIGHT if name == precision), None)
        if known is None:
            raise BuildError(f"PRECISION={precision}: {self.name} knows {', '.join(BITS_PER_WEIGHT)}")
        if not self.can_run(known):
            raise BuildError(
                f"PRECISION=fp8: {self.name} has compute capability "
                f"{'.'.join(map(str, self.gpu.compute_capability))} and no FP8 (8.9 and later have); "
                "use PRECISION=bf16, int8 or int4"
            )
        return replace(self, llm_precision=known)


def limits(max_batch_size: int) -> Limits:
    """Audio Flamingo 3's own limits, for so many requests at once.

    A slot holds the audio of one request: 20 windows, whether of one clip or of several.
    """
    max_audio_tokens = MAX_WINDOWS_PER_CLIP * AUDIO_TOKENS_PER_WINDOW
    return Limits(
        max_windows_per_clip=MAX_WINDOWS_PER_CLIP,
        max_audio_tokens=max_audio_tokens,
        max_text_tokens=MAX_TEXT_TOKENS,
        max_output_tokens=MAX_NEW_TOKENS,
        max_sequence_tokens=max_audio_tokens + MAX_TEXT_TOKENS + MAX_NEW_TOKENS,
        max_batch_size=max_batch_size,
    )
