"""The client's own list of tensors against the contract of the graph."""

import pytest

from af3 import contract as graph
from clients import contract as client

TENSORS = [name for name, value in vars(client).items() if isinstance(value, client.Tensor)]


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_of_the_client_is_that_of_the_graph(name: str) -> None:
    own, whole = getattr(client, name), getattr(graph, name)
    assert own == (whole.name, whole.dtype, whole.dims, whole.optional)


def test_the_client_knows_every_tensor_it_sends_or_receives() -> None:
    met = {*graph.AUDIO_FLAMINGO_SPEECH.inputs, *graph.AUDIO_FLAMINGO_SPEECH.outputs, *graph.TTS.inputs}
    assert {tensor.name for tensor in met} == {getattr(client, name).name for name in TENSORS}


def test_models_are_those_of_the_graph() -> None:
    assert graph.AUDIO_FLAMINGO.name == client.AUDIO_FLAMINGO
    assert graph.AUDIO_FLAMINGO_SPEECH.name == client.AUDIO_FLAMINGO_SPEECH
    assert graph.TTS.name == client.TTS
    assert [tensor.name for tensor in client.TTS_INPUTS] == [tensor.name for tensor in graph.TTS.inputs]
