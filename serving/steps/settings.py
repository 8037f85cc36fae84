"""The settings of each step: the `parameters` of its config.pbtxt, checked when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.address import ServerError

Settings = TypeVar("Settings", bound="StepSettings")


class StepSettings(BaseModel):
    """The settings of every step: the folder of the engines, relative to the folder that is served from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine_dir: Path

    @classmethod
    def from_config(cls: type[Settings], model_config: Mapping[str, Any]) -> Settings:
        """Read a model configuration as Triton passes it to `initialize`, or as JSON spells a config.pbtxt.

        Raises ServerError that names the model and every setting that is missing, unknown or out of range.
        """
        given = {name: value["string_value"] for name, value in model_config.get("parameters", {}).items()}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = "; ".join(map(_sentence, error.errors()))
            raise ServerError(
                f"model '{model_config.get('name', '?')}': {problems}; see the parameters of its config.pbtxt"
            ) from None


class PreprocessSettings(StepSettings):
    """niceness: 0 to 19, as for nice(1)."""

    niceness: int = Field(ge=0, le=19)


class EncoderSettings(StepSettings):
    """provider: TensorRT or one of ONNX Runtime. threads: 0 is every core. embedding_cache_mib: 0 keeps none.

    in_turns: whether windows of different requests take turns, or one call of the encoder takes all that wait.
    """

    provider: str = Field(min_length=1)
    in_turns: bool
    threads: int = Field(ge=0)
    embedding_cache_mib: int = Field(ge=0)
    niceness: int = Field(ge=0, le=19)

    @property
    def embedding_cache_bytes(self) -> int:
        return self.embedding_cache_mib << 20


class LlmSettings(StepSettings):
    """slots: rows of the KV cache. max_queue: requests that wait for one. prefill_tokens: read in one turn.

    newcomer_slots: of the slots, kept free for callers that have less than their share (the door sees to it).
    prefix_cache_mib: ONNX Runtime only, size of the prefix cache; 0 turns it off.
    most_responses_per_s: of all answers together; tokens that come faster share a response.
    least_gap_ms: between two responses of one answer, however few answers there are.
    The others are vLLM's. python: relative to this repository. gpu_memory_fraction: of each GPU, for weights and
    KV cache. tensor_parallel: GPUs that share the weights. kv_cache_gib: on a CPU, at least.
    """

    slots: int = Field(ge=1)
    newcomer_slots: int = Field(0, ge=0)
    max_queue: int = Field(ge=0)
    prefill_tokens: int = Field(ge=1)
    threads: int = Field(ge=0)
    most_responses_per_s: float = Field(1000, gt=0, allow_inf_nan=False)
    least_gap_ms: int = Field(0, ge=0, le=50)
    engine: Literal["onnxruntime", "vllm"] = "onnxruntime"
    python: Path = Path(".venv-vllm/bin/python")
    gpu_memory_fraction: float = Field(0.8, gt=0, lt=1)
    tensor_parallel: int = Field(1, ge=1)
    kv_cache_gib: float = Field(2, gt=0, allow_inf_nan=False)
    prefix_cache_mib: int = Field(0, ge=0)

    @property
    def prefix_cache_bytes(self) -> int:
        return self.prefix_cache_mib << 20


class PostprocessSettings(StepSettings):
    """idle_s: an answer without a token for so long is forgotten.

    most_responses_per_s: of all answers together; without it there is no limit.
    """

    idle_s: float = Field(gt=0, allow_inf_nan=False)
    most_responses_per_s: float | None = Field(None, gt=0, allow_inf_nan=False)


class TtsSettings(StepSettings):
    """threads: segments that are spoken at a time. idle_s: an answer without text for so long is forgotten.

    fallback: the offline voice that goes on with an answer whose natural voice cannot keep up, or "off".
    """

    provider: str = Field(min_length=1)
    threads: int = Field(ge=1)
    idle_s: float = Field(gt=0, allow_inf_nan=False)
    fallback: Literal["off", "en-us", "en-us-female", "en-us-low", "en-gb", "en-gb-female"]

    @property
    def fallback_voice(self) -> str | None:
        return None if self.fallback == "off" else self.fallback


OF_STEP: dict[str, type[StepSettings]] = {
    "preprocess": PreprocessSettings,
    "audio_encoder": EncoderSettings,
    "llm": LlmSettings,
    "postprocess": PostprocessSettings,
    "tts": TtsSettings,
}


def _sentence(problem: Any) -> str:
    name = ".".join(str(step) for step in problem["loc"])
    if problem["type"] == "missing":
        return f"setting '{name}' is missing"
    if problem["type"] == "extra_forbidden":
        return f"setting '{name}' is unknown"
    return f"setting '{name}' is {problem['input']!r}: {problem['msg']}"
