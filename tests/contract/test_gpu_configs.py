"""The configs of the GPU against TensorRT-LLM's own model, the CPU's configs, the targets, the contract."""

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from af3 import contract
from build_engines import memory_plan
from build_engines.targets import TARGETS

REPOSITORY = Path(__file__).parents[2] / "model_repository"
UPSTREAM = json.loads(Path(__file__).with_name("upstream_llm.json").read_text())
FILLED_IN = {
    "${encoder_input_features_data_type}": "FP16",
    "${logits_datatype}": "FP32",
    "${prompt_embedding_table_data_type}": "BF16",
}
STEPS = ("preprocess", "audio_encoder", "llm", "postprocess")


def config(model: str, name: str = "gpu") -> model_config_pb2.ModelConfig:
    text = (REPOSITORY / model / "configs" / f"{name}.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def type_name(tensor: model_config_pb2.ModelInput) -> str:
    return model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")


def parameter(model: str, key: str) -> str:
    return config(model).parameters[key].string_value


def test_the_llm_declares_every_input_as_upstream_does():
    declared = {
        tensor.name: [
            type_name(tensor),
            list(tensor.dims),
            *(["scalar"] if tensor.HasField("reshape") else []),
            *(["ragged"] if tensor.allow_ragged_batch else []),
            *(["optional"] if tensor.optional else []),
        ]
        for tensor in config("llm").input
    }
    upstream = {name: [FILLED_IN.get(kind, kind), *rest] for name, kind, *rest in UPSTREAM["inputs"]}
    assert declared == upstream


def test_the_llm_declares_every_output_as_upstream_does():
    declared = [[tensor.name, type_name(tensor), list(tensor.dims)] for tensor in config("llm").output]
    assert declared == [[name, FILLED_IN.get(kind, kind), dims] for name, kind, dims in UPSTREAM["outputs"]]


def test_the_llm_has_every_parameter_key_of_upstream_and_no_other():
    assert set(config("llm").parameters) == set(UPSTREAM["parameters"])
    assert set(UPSTREAM["must_exist"]) <= set(config("llm").parameters)


def test_no_parameter_is_left_as_a_placeholder():
    for model in (*STEPS, "audio_flamingo"):
        text = (REPOSITORY / model / "configs" / "gpu.pbtxt").read_text()
        assert "${" not in text


def test_the_llm_streams_in_flight_batches_and_bounds_its_queue():
    llm = config("llm")
    assert llm.backend == "tensorrtllm"
    assert llm.model_transaction_policy.decoupled
    assert parameter("llm", "gpt_model_type") == "inflight_fused_batching"
    assert llm.dynamic_batching.default_queue_policy.max_queue_size > 0
    [group] = llm.instance_group
    assert [group.count, model_config_pb2.ModelInstanceGroup.Kind.Name(group.kind)] == [1, "KIND_CPU"]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_no_engine_is_smaller_than_a_call_into_the_llm(target):
    assert config("llm").max_batch_size <= target.limits.max_batch_size


def test_kv_cache_reuse_is_on_and_the_ids_that_make_it_safe_reach_the_llm():
    assert parameter("llm", "enable_kv_cache_reuse") == "true"
    assert contract.PROMPT_TABLE_EXTRA_IDS in contract.PREPROCESS.outputs
    [step] = [s for s in config("audio_flamingo").ensemble_scheduling.step if s.model_name == "llm"]
    assert step.input_map[contract.PROMPT_TABLE_EXTRA_IDS.name] == contract.PROMPT_TABLE_EXTRA_IDS.name


def test_long_prompts_are_read_in_chunks():
    assert parameter("llm", "enable_chunked_context") == "true"


def test_the_share_of_the_kv_cache_is_the_one_that_was_planned():
    assert float(parameter("llm", "kv_cache_free_gpu_mem_fraction")) == memory_plan.KV_CACHE_FRACTION


def test_the_embedding_cache_is_the_one_that_was_planned():
    cache_bytes = int(parameter("audio_encoder", "embedding_cache_mib")) << 20
    assert cache_bytes == memory_plan.EMBEDDING_CACHE_BYTES


@pytest.mark.parametrize("step", contract.AUDIO_FLAMINGO.steps, ids=STEPS)
def test_every_tensor_of_the_contract_is_there_with_the_table_in_bf16(step):
    def expected(tensor: contract.Tensor) -> str:
        return "BF16" if tensor == contract.PROMPT_EMBEDDING_TABLE else tensor.dtype

    found = config(step.name)
    for tensors, declared in ((step.inputs, found.input), (step.outputs, found.output)):
        types = {tensor.name: type_name(tensor) for tensor in declared}
        assert {tensor.name: expected(tensor) for tensor in tensors}.items() <= types.items()


def test_the_graph_of_the_ensemble_is_the_same_on_both():
    assert config("audio_flamingo", "gpu") == config("audio_flamingo", "cpu")


@pytest.mark.parametrize("model", ["preprocess", "audio_encoder", "postprocess"])
def test_the_python_steps_differ_only_where_the_machine_does(model):
    gpu, cpu = config(model, "gpu"), config(model, "cpu")
    # Of the CPU's LLM a response has several tokens already.
    assert set(gpu.parameters) - {"most_responses_per_s"} == set(cpu.parameters)
    assert [(t.name, list(t.dims)) for t in gpu.input] == [(t.name, list(t.dims)) for t in cpu.input]
    assert [(t.name, list(t.dims)) for t in gpu.output] == [(t.name, list(t.dims)) for t in cpu.output]
    assert gpu.max_batch_size == cpu.max_batch_size


def test_requests_that_wait_for_the_encoder_share_its_next_call():
    encoder = config("audio_encoder")
    assert encoder.HasField("dynamic_batching")
    assert parameter("audio_encoder", "in_turns") == "false"
    assert encoder.dynamic_batching.max_queue_delay_microseconds == 0  # nobody waits for company
    assert encoder.max_batch_size > 1
    assert all(tensor.allow_ragged_batch for tensor in encoder.input if not tensor.optional)


def test_every_step_reads_the_same_engines():
    folders = {parameter(model, "engine_dir") for model in ("preprocess", "audio_encoder", "postprocess")}
    assert folders == {"engines/gpu"}
    assert parameter("llm", "gpt_model_path") == "engines/gpu/llm"
