"""`engines/<target>/manifest.json`: what was built, from what, with which tools and limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

FILE_NAME = "manifest.json"
TOKENIZER_FOLDER = "tokenizer"  # beside the manifest
WINDOW_SECONDS = 30
ADAPTERS_FOLDER = "adapters"  # one folder per LoRA
CPU_VLLM = "cpu-vllm"  # folder of the engines for vLLM on a CPU

Target = Literal["cpu", "any", "rtx", "h100", "a100", "l40s", "h200", "l4", "a10g", "rtx4090"]


class ManifestError(Exception):
    """These engines cannot be served. The message tells the operator the file, what is wrong and what to run."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CheckpointIdentity(_Section):
    """name: as the operator gave it; sha256: over everything that decides an answer."""

    name: str
    sha256: str


class Precision(_Section):
    """llm: awq, gptq and compressed-tensors are the checkpoint's own packed weights, which only vLLM runs."""

    audio_encoder: Literal["fp32", "fp16", "bf16", "int8"]
    llm: Literal["fp32", "int4", "fp8", "bf16", "int8", "awq", "gptq", "compressed-tensors"]


class Limits(_Section):
    """The engines' limits; larger requests are refused before they reach an engine."""

    max_windows_per_clip: int
    max_audio_tokens: int  # of one request, all clips
    max_text_tokens: int  # of one request
    max_output_tokens: int
    max_sequence_tokens: int  # prompt and answer
    max_batch_size: int

    @property
    def max_clip_seconds(self) -> int:
        return self.max_windows_per_clip * WINDOW_SECONDS


class ModelFacts(_Section):
    """Facts about the checkpoint, so that a server need not read its configuration."""

    hidden_size: int
    vocab_size: int  # rows of the embedding table; the tokenizer may have fewer
    layers: int
    kv_heads: int
    head_dim: int
    audio_token_id: int
    clip_begin_ids: tuple[int, ...]  # before the audio tokens of every clip
    clip_end_ids: tuple[int, ...]  # after them
    im_start_id: int
    im_end_id: int
    stop_token_ids: tuple[int, ...]
    pad_token_id: int
    rotates_by_time: bool  # RoTE: a window's embeddings depend on its place in its clip
    default_system_prompt: str | None  # added to a conversation without a system turn; None: nothing is added


class GpuIdentity(_Section):
    """The GPU and software that built an engine; TensorRT engines run nowhere else."""

    name: str
    compute_capability: str
    driver: str
    tensorrt: str
    tensorrt_llm: str
    image: str


class Manifest(_Section):
    """One set of engines. files: path → sha256; verification: stage → figure → value."""

    format: Literal[2] = 2
    target: Target
    checkpoint: CheckpointIdentity
    precision: Precision
    limits: Limits
    model: ModelFacts
    tools: dict[str, str]
    files: dict[str, str]
    verification: dict[str, dict[str, float]]
    voice: str | None = None  # name of the neural voice, if one was built
    voice_licence: str | None = None  # if the voice's files give it
    gpu: GpuIdentity | None = None
    adapters: tuple[str, ...] = ()  # LoRAs that a request may name

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The device that these engines run on."""
        return "cpu" if self.target == "cpu" else "cuda"

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of the engines in `folder` and check that every file exists.

        Raises ManifestError when there is no manifest, its format is wrong, or a file is missing.
        """
        path = folder / FILE_NAME
        rebuild = f"run `make engines GPU={'cpu LLM=vllm' if folder.name == CPU_VLLM else folder.name}`"
        if not path.exists():
            raise ManifestError(f"{path}: there are no engines here; {rebuild}")
        try:
            manifest = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            first = error.errors()[0]  # the error of `format` comes first and explains the others
            place = ".".join(str(step) for step in first["loc"]) or "the file"
            found = json.dumps(first["input"])[:80]
            raise ManifestError(f"{path}: {place} is {found}: {first['msg']}; {rebuild}") from None
        missing = sorted(name for name in manifest.files if not (folder / name).exists())
        if missing:
            raise ManifestError(f"{path}: it names {missing[0]}, which is not there; {rebuild}")
        return manifest

    def write(self, folder: Path) -> None:
        """Write `folder/manifest.json` atomically."""
        draft = folder / f".{FILE_NAME}"
        draft.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.replace(folder / FILE_NAME)
