"""The pbtxt files say what `af3/contract.py` says, and every ensemble wires what its steps need."""

from itertools import chain
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.model_config_pb2 import ModelConfig

from af3 import contract
from serving.host.triton import MODEL_REPOSITORY
from serving.machine.gpu import VLLM_LINK

STEPS = {step.name: step for step in contract.AUDIO_FLAMINGO.steps}


def parse(path: Path) -> ModelConfig:
    """Triton's own schema: a misspelt field fails here."""
    return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())


def config_of(model: str, target: str) -> ModelConfig:
    return parse(MODEL_REPOSITORY / model / "configs" / f"{target}.pbtxt")


@pytest.mark.parametrize(
    "path",
    sorted(MODEL_REPOSITORY.glob("*/configs/*.pbtxt")),
    ids=lambda path: f"{path.parts[-3]}-{path.stem}",
)
def test_every_config_is_valid_and_named_after_its_folder(path: Path) -> None:
    assert parse(path).name == path.parts[-3]


@pytest.mark.parametrize("model", [path.name for path in sorted(MODEL_REPOSITORY.iterdir())])
def test_every_model_has_a_config_for_every_target(model: str) -> None:
    assert {path.stem for path in (MODEL_REPOSITORY / model / "configs").glob("*.pbtxt")} == {
        "cpu",
        "gpu",
        "vllm",
    }


@pytest.mark.parametrize("target", ["cpu", "vllm"])
@pytest.mark.parametrize("name", STEPS)
def test_a_config_declares_the_tensors_of_the_contract(name: str, target: str) -> None:
    config, step = config_of(name, target), STEPS[name]
    assert _declared(config.input, step) == _agreed(step.inputs)
    assert _declared(config.output, step) == {
        tensor.name: (f"TYPE_{tensor.dtype}", tensor.dims, False) for tensor in step.outputs
    }
    assert config.model_transaction_policy.decoupled == step.decoupled
    assert (config.max_batch_size > 0) == step.batched


def _agreed(tensors: tuple[contract.Tensor, ...]) -> dict[str, tuple[str, tuple[int, ...], bool]]:
    # Steps after the first see an absent tensor as absent only where their input is optional; the
    # declaration of the output of an earlier step has no such field.
    return {tensor.name: (f"TYPE_{tensor.dtype}", tensor.dims, tensor.optional) for tensor in tensors}


def _declared(tensors, step: contract.Step) -> dict[str, tuple[str, tuple[int, ...], bool]]:  # type: ignore[no-untyped-def]
    """Without the leading 1 that an unbatched step writes out between preprocess and postprocess."""
    wire = {
        tensor.name
        for tensor in (*contract.AUDIO_ENCODER.inputs, *contract.LLM.inputs, *contract.LLM.outputs)
    }
    found = {}
    for tensor in tensors:
        dims = tuple(tensor.dims)
        if not step.batched and tensor.name in wire:
            assert dims[0] == 1
            dims = dims[1:]
        dtype = model_config_pb2.DataType.Name(tensor.data_type)
        found[tensor.name] = (dtype, dims, getattr(tensor, "optional", False))
    return found


@pytest.mark.parametrize("target", ["cpu", "gpu", "vllm"])
def test_the_ensemble_gives_every_step_what_an_earlier_one_made(target: str) -> None:
    ensemble = config_of("audio_flamingo", target)
    made = {tensor.name for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        config = config_of(step.model_name, target)
        inputs = {tensor.name: tensor for tensor in config.input}
        assert set(step.input_map) <= set(inputs), step.model_name
        required = {name for name, tensor in inputs.items() if not tensor.optional}
        assert required <= set(step.input_map), step.model_name
        assert set(step.input_map.values()) <= made, step.model_name
        assert set(step.output_map) <= {tensor.name for tensor in config.output}, step.model_name
        made |= set(step.output_map.values())
    assert {tensor.name for tensor in ensemble.output} <= made


@pytest.mark.parametrize("ensemble", ["audio_flamingo", "audio_flamingo_speech", "speech"])
def test_all_targets_serve_the_same_ensembles(ensemble: str) -> None:
    assert config_of(ensemble, "cpu") == config_of(ensemble, "gpu") == config_of(ensemble, "vllm")


@pytest.mark.parametrize("model", [path.name for path in sorted(MODEL_REPOSITORY.iterdir())])
def test_with_vllm_only_the_engines_their_provider_and_the_llms_settings_differ(model: str) -> None:
    cpu, vllm = config_of(model, "cpu"), config_of(model, "vllm")
    changed = {name for name in cpu.parameters if cpu.parameters[name] != vllm.parameters[name]}
    allowed = {"engine_dir"} | ({"provider"} if model == "audio_encoder" else set())
    if model == "llm":
        allowed |= set(cpu.parameters) | set(vllm.parameters)
    assert changed <= allowed
    if "engine_dir" in vllm.parameters:
        assert vllm.parameters["engine_dir"].string_value == f"engines/{VLLM_LINK}"
    cpu.ClearField("parameters")
    vllm.ClearField("parameters")
    assert cpu == vllm


def test_the_ensemble_is_the_contracts() -> None:
    ensemble = config_of("audio_flamingo", "cpu")
    assert [step.model_name for step in ensemble.ensemble_scheduling.step] == list(STEPS)
    for declared, agreed in (
        (ensemble.input, contract.PREPROCESS.inputs),
        (ensemble.output, contract.POSTPROCESS.outputs),
    ):
        assert [tensor.name for tensor in declared] == [tensor.name for tensor in agreed]


@pytest.mark.parametrize("target", ["cpu", "gpu", "vllm"])
def test_postprocess_keeps_order_and_sees_cancellations(target: str) -> None:
    config = config_of("postprocess", target)
    assert [group.count for group in config.instance_group] == [1]
    assert not config.HasField("dynamic_batching")


def test_no_tensor_has_two_meanings() -> None:
    seen: dict[str, contract.Tensor] = {}
    for tensor in chain.from_iterable((*step.inputs, *step.outputs) for step in STEPS.values()):
        assert seen.setdefault(tensor.name, tensor) == tensor
