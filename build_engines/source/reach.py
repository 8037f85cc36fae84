"""The longest audio and answer of each model, from NVIDIA's model cards or from a checkpoint's files.

Does not import torch, so that a dry run needs only a published checkpoint's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from af3.contract import MAX_CLIP_SECONDS, MAX_NEW_TOKENS, MAX_TEXT_TOKENS
from af3.manifest import WINDOW_SECONDS, Limits

if TYPE_CHECKING:
    from build_engines.source.checkpoint import Checkpoint

AUDIO_TOKENS_PER_SECOND = 25


@dataclass(frozen=True)
class Reach:
    """A model's limits. clip_seconds: of one clip, and of all clips of a request; positions: of the language model."""

    clip_seconds: int
    answer_tokens: int
    positions: int
    rotates_by_time: bool = False  # RoTE

    def limits(self, max_batch_size: int, request_seconds: int | None = None) -> Limits:
        """Limits for `max_batch_size` requests at once, each of `request_seconds` of audio (default: clip_seconds)."""
        seconds = request_seconds or self.clip_seconds
        windows = -(-seconds // WINDOW_SECONDS)
        audio_tokens = windows * WINDOW_SECONDS * AUDIO_TOKENS_PER_SECOND
        return Limits(
            max_windows_per_clip=windows,
            max_audio_tokens=audio_tokens,
            max_text_tokens=MAX_TEXT_TOKENS,
            max_output_tokens=self.answer_tokens,
            max_sequence_tokens=min(self.positions, audio_tokens + MAX_TEXT_TOKENS + self.answer_tokens),
            max_batch_size=max_batch_size,
        )


AUDIO_FLAMINGO_3 = Reach(MAX_CLIP_SECONDS, MAX_NEW_TOKENS, positions=32_768)
MUSIC_FLAMINGO = Reach(1200, 2048, positions=32_768, rotates_by_time=True)
AUDIO_FLAMINGO_NEXT = Reach(1800, 4096, positions=131_072, rotates_by_time=True)

# From the model cards. music-flamingo-hf (November 2025) has Audio Flamingo 3's class.
PUBLISHED = {
    "nvidia/audio-flamingo-3-hf": AUDIO_FLAMINGO_3,
    "nvidia/audio-flamingo-3-chat": AUDIO_FLAMINGO_3,
    "nvidia/music-flamingo-hf": AUDIO_FLAMINGO_3,
    "nvidia/music-flamingo-2601-hf": MUSIC_FLAMINGO,
    "nvidia/music-flamingo-think-2601-hf": MUSIC_FLAMINGO,
    "nvidia/audio-flamingo-next-hf": AUDIO_FLAMINGO_NEXT,
    "nvidia/audio-flamingo-next-think-hf": AUDIO_FLAMINGO_NEXT,
    "nvidia/audio-flamingo-next-captioner-hf": AUDIO_FLAMINGO_NEXT,
}


def published(name: str) -> Reach:
    """Limits of a checkpoint that is not here, by hub id; unknown ids get Audio Flamingo 3's."""
    return PUBLISHED.get(name, AUDIO_FLAMINGO_3)


def of(checkpoint: Checkpoint) -> Reach:
    """Limits of a checkpoint that is here.

    Its processor has the longest clip, its language model the positions. Only the model cards give the longest answer;
    it is chosen by the longest clip.
    """
    seconds = checkpoint.windows_per_clip * WINDOW_SECONDS
    known = (AUDIO_FLAMINGO_3, MUSIC_FLAMINGO)
    tokens = next((reach.answer_tokens for reach in known if seconds <= reach.clip_seconds), None)
    return Reach(
        seconds,
        tokens or AUDIO_FLAMINGO_NEXT.answer_tokens,
        checkpoint.text_config.max_position_embeddings,
        checkpoint.family.rotates_by_time,
    )


def describe(limits: Limits) -> str:
    """Format the limits as a line for the terminal."""
    return (
        f"limits: clips of {limits.max_clip_seconds} s, {limits.max_audio_tokens} audio tokens and "
        f"{limits.max_text_tokens} text tokens a request, answers of {limits.max_output_tokens} tokens, sequences of "
        f"{limits.max_sequence_tokens}; {limits.max_batch_size} requests at once"
    )
