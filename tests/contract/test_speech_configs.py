"""The speech ensemble is the other one with a last step more, wired as the contract says."""

from collections.abc import Iterable

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from af3 import contract
from af3.parameters import Parameters
from af3.speech.voice import MAX_RATE, MIN_RATE
from serving.host.triton import MODEL_REPOSITORY

TARGETS = ("cpu", "gpu", "vllm")


def config_of(model: str, target: str) -> ModelConfig:
    path = MODEL_REPOSITORY / model / "configs" / f"{target}.pbtxt"
    return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())


def declared(tensors: Iterable) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {tensor.name: (DataType.Name(tensor.data_type), tuple(tensor.dims)) for tensor in tensors}


def agreed(tensors: Iterable[contract.Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {tensor.name: (f"TYPE_{tensor.dtype}", tensor.dims) for tensor in tensors}


@pytest.mark.parametrize("target", TARGETS)
def test_tts_declares_the_tensors_of_the_contract(target: str) -> None:
    config = config_of("tts", target)
    assert declared(config.input) == agreed(contract.TTS.inputs)
    assert declared(config.output) == agreed(contract.TTS.outputs)
    assert [tensor.name for tensor in config.input if not tensor.optional] == [contract.TEXT.name]
    assert config.model_transaction_policy.decoupled
    assert config.max_batch_size == 0


@pytest.mark.parametrize("target", TARGETS)
def test_tts_keeps_order_and_sees_cancellations(target: str) -> None:
    config = config_of("tts", target)
    assert [group.count for group in config.instance_group] == [1]
    assert not config.HasField("dynamic_batching")


@pytest.mark.parametrize("target", TARGETS)
def test_the_speech_ensemble_is_the_contracts(target: str) -> None:
    ensemble, silent = config_of("audio_flamingo_speech", target), config_of("audio_flamingo", target)
    steps = ensemble.ensemble_scheduling.step
    assert declared(ensemble.input) == declared(silent.input) == agreed(contract.AUDIO_FLAMINGO_SPEECH.inputs)
    assert declared(ensemble.output) == agreed(contract.AUDIO_FLAMINGO_SPEECH.outputs)
    assert [step.model_name for step in steps] == [step.name for step in contract.AUDIO_FLAMINGO_SPEECH.steps]
    assert list(steps)[:3] == list(silent.ensemble_scheduling.step)[:3]


@pytest.mark.parametrize("target", TARGETS)
def test_all_that_a_client_receives_comes_from_tts(target: str) -> None:
    """In a decoupled ensemble only the last step's responses reach the client one by one."""
    *_, postprocess, tts = config_of("audio_flamingo_speech", target).ensemble_scheduling.step
    wired = {name: postprocess.output_map[name] for name in agreed(contract.POSTPROCESS.outputs)}
    assert dict(tts.input_map) == wired
    assert dict(tts.output_map) == {name: name for name in agreed(contract.TTS.outputs)}
    assert not set(wired.values()) & set(tts.output_map.values())


@pytest.mark.parametrize("target", TARGETS)
def test_the_voice_alone_is_the_contracts(target: str) -> None:
    ensemble = config_of(contract.SPEECH_ALONE.name, target)
    (step,) = ensemble.ensemble_scheduling.step
    assert step.model_name == contract.TTS.name
    assert declared(ensemble.input) == agreed(contract.SPEECH_ALONE.inputs)
    assert declared(ensemble.output) == agreed(contract.SPEECH_ALONE.outputs)
    assert dict(step.input_map) == {name: name for name in agreed(contract.SPEECH_ALONE.inputs)}
    assert dict(step.output_map) == {name: name for name in agreed(contract.SPEECH_ALONE.outputs)}


def test_both_targets_serve_the_same_speech_ensemble() -> None:
    assert config_of("audio_flamingo_speech", "cpu") == config_of("audio_flamingo_speech", "gpu")


def test_the_rate_that_requests_may_ask_for_is_what_every_voice_keeps_to() -> None:
    rate = Parameters.model_json_schema()["properties"]["rate"]
    assert (rate["minimum"], rate["maximum"]) == (MIN_RATE, MAX_RATE)
