"""Settings of the launcher and of the steps that must agree, checked before anything is started."""

from __future__ import annotations

from dataclasses import replace

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving.address import ServerError
from serving.door.admission import Limits
from serving.host.launch_settings import LaunchSettings
from serving.host.triton import MODEL_REPOSITORY
from serving.steps.settings import OF_STEP, LlmSettings, PostprocessSettings, StepSettings, TtsSettings

PROBES = 2  # of the supervisor: one may still be in the queue when the next is sent


def read_steps(config: str) -> dict[str, StepSettings]:
    """The settings of the Python steps of `configs/<config>.pbtxt`. Raises ServerError."""
    found = {}
    for name, kind in OF_STEP.items():
        pbtxt = _read(name, config)
        if pbtxt.backend == "python":
            parameters = {
                key: {"string_value": value.string_value} for key, value in pbtxt.parameters.items()
            }
            found[name] = kind.from_config({"name": name, "parameters": parameters})
    return found


def _read(name: str, config: str) -> ModelConfig:
    path = MODEL_REPOSITORY / name / "configs" / f"{config}.pbtxt"
    return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())


def decoding_processes(config: str) -> int:
    """The number of processes that decode clips."""
    return sum(group.count for group in _read("preprocess", config).instance_group)


def limits(settings: LaunchSettings, steps: dict[str, StepSettings], processes: int) -> Limits:
    """The door's limits on what Triton has at once.

    With slots for newcomers, no request waits inside Triton for a slot: a newcomer would wait behind it. Without,
    Triton gets half as many more than the LLM has slots, and prepares them meanwhile. processes: those that decode.
    """
    found = replace(settings.limits, decoding=max(1, processes - 1))
    llm = steps.get("llm")
    if not isinstance(llm, LlmSettings):
        return found
    kept = llm.newcomer_slots
    most = llm.slots - kept - PROBES if kept else llm.slots + max(2, llm.slots // 2)
    at_triton = min(found.in_flight, most) if found.at_triton is None else found.at_triton
    return replace(found, at_triton=at_triton, for_newcomers=kept)


def check(settings: LaunchSettings, steps: dict[str, StepSettings]) -> None:
    """Raises ServerError that names both settings and what to change."""
    llm = steps.get("llm")
    if isinstance(llm, LlmSettings):
        room = llm.slots + llm.max_queue - PROBES
        if settings.max_in_flight > room:
            raise ServerError(
                f"--max-in-flight {settings.max_in_flight} is more than the LLM can take: {llm.slots} slots and"
                f" {llm.max_queue} in its queue, less {PROBES} for probes; lower it to {room} or raise"
                " max_queue of model_repository/llm"
            )
        if llm.newcomer_slots and llm.slots <= llm.newcomer_slots + PROBES:
            raise ServerError(
                f"newcomer_slots {llm.newcomer_slots} of model_repository/llm leaves nothing of {llm.slots} slots, less"
                f" {PROBES} for probes, to all others; lower it or raise slots"
            )
        if llm.engine == "vllm" and llm.prefix_cache_mib:
            raise ServerError(
                f"prefix_cache_mib {llm.prefix_cache_mib} has no effect with engine vllm of model_repository/llm:"
                " vLLM keeps prompts in kv_cache_gib or gpu_memory_fraction; take it out, or set 0"
            )
    for name, step in steps.items():
        if isinstance(step, PostprocessSettings | TtsSettings) and step.idle_s < settings.max_timeout:
            raise ServerError(
                f"--max-timeout {settings.max_timeout:g} is longer than idle_s {step.idle_s:g} of"
                f" model_repository/{name}, after which it forgets an answer; lower the one or raise the other"
            )
