"""The families of Transformers classes that checkpoints use; their other facts are in the checkpoint's files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3Model,
    AudioFlamingo3Processor,
    MusicFlamingoConfig,
    MusicFlamingoModel,
    MusicFlamingoProcessor,
)

AudioConfig: TypeAlias = AudioFlamingo3Config | MusicFlamingoConfig
AudioModel: TypeAlias = AudioFlamingo3Model | MusicFlamingoModel
Processor: TypeAlias = AudioFlamingo3Processor | MusicFlamingoProcessor


@dataclass(frozen=True)
class Family:
    """One set of classes, and the model types that checkpoints give for it."""

    config: type[Any]
    model: type[Any]
    processor: type[Any]
    model_types: tuple[str, ...]
    architectures: tuple[str, ...]
    processor_names: tuple[str, ...]
    rotates_by_time: bool  # RoTE, between tower and adaptor


FAMILIES = (
    Family(
        AudioFlamingo3Config,
        AudioFlamingo3Model,
        AudioFlamingo3Processor,
        model_types=("audioflamingo3",),
        architectures=("AudioFlamingo3ForConditionalGeneration",),
        processor_names=("AudioFlamingo3Processor",),
        rotates_by_time=False,
    ),
    # Music Flamingo 2601 and Audio Flamingo Next, whose model_type was different at first.
    Family(
        MusicFlamingoConfig,
        MusicFlamingoModel,
        MusicFlamingoProcessor,
        model_types=("musicflamingo", "audioflamingonext"),
        architectures=("MusicFlamingoForConditionalGeneration", "AudioFlamingoNextForConditionalGeneration"),
        processor_names=("MusicFlamingoProcessor", "AudioFlamingoNextProcessor"),
        rotates_by_time=True,
    ),
)
MODEL_TYPES = tuple(name for family in FAMILIES for name in family.model_types)


def family_of(model_type: str | None) -> Family | None:
    """Find the family of a config.json's `model_type`; None for other models."""
    return next((family for family in FAMILIES if model_type in family.model_types), None)
