"""What the client puts into a request."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tritonclient.utils import deserialize_bytes_tensor

from af3.parameters import Parameters as ServerParameters
from af3.parameters import parse_parameters
from clients import AudioFlamingoError, Parameters, Samples
from clients.request import deadline_s, messages_request, prompt_request


def _request(audio=(), prompt="What is it?", timeout_s=None, request_id=None, **parameters):
    return prompt_request("audio_flamingo", audio, prompt, timeout_s, request_id, parameters)


def _elements(request, name):
    place = [tensor.name for tensor in request.inputs].index(name)
    return list(deserialize_bytes_tensor(request.raw_input_contents[place]))


def test_paths_and_bytes_arrive_as_they_are_and_in_order(tmp_path):
    file = tmp_path / "a.wav"
    file.write_bytes(b"first\0")
    request = _request([file, b"second", str(file)])
    assert _elements(request, "audio") == [b"first\0", b"second", b"first\0"]
    assert list(request.inputs[0].shape) == [3]


def test_one_clip_needs_no_list(tmp_path):
    file = tmp_path / "a.wav"
    file.write_bytes(b"x")
    assert _elements(_request(str(file)), "audio") == [b"x"]


def test_without_clips_there_is_no_audio_input():
    assert [tensor.name for tensor in _request([]).inputs] == ["prompt"]


@pytest.mark.parametrize("shape", [(800,), (800, 2)])
def test_samples_become_a_file_that_holds_every_bit_of_them(shape):
    values = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    (data,) = _elements(_request(Samples(values, 22_050)), "audio")
    read, hz = soundfile.read(io.BytesIO(data), dtype="float32")
    assert hz == 22_050
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("values", [np.zeros(9, np.int16), np.zeros((1, 2, 3))])
def test_samples_that_are_no_sound_are_refused_by_the_name_of_the_clip(values):
    with pytest.raises(AudioFlamingoError, match=r"audio\[1\]: the (samples are|shape)"):
        _request([b"x", Samples(values, 16_000)])


def test_a_missing_file_is_named_with_its_place():
    with pytest.raises(AudioFlamingoError, match=r"audio\[1\]: nowhere\.wav: No such file"):
        _request([b"x", "nowhere.wav"])


def test_parameters_arrive_at_the_server_as_they_were_given():
    given = {"max_tokens": 9, "temperature": 0.5, "think": True, "stop": ["[a", "é"], "seed": 2**63 - 1}
    request = _request(**given)
    fields = {name: _value(request.parameters[name]) for name in given}
    assert parse_parameters(fields).model_dump(include=set(given)) == {**given, "stop": ("[a", "é")}


def test_a_single_stop_text_that_looks_like_json_means_itself():
    stop = _value(_request(stop='["a"]').parameters["stop"])
    assert parse_parameters({"stop": stop}).stop == ('["a"]',)


@pytest.mark.parametrize("value", [{"a": 1}, 2**63])
def test_a_parameter_that_triton_cannot_carry_is_named(value):
    with pytest.raises(AudioFlamingoError, match="parameter 'seed'"):
        _request(seed=value)


def test_the_client_knows_the_parameters_that_the_server_knows():
    assert set(Parameters.__annotations__) == set(ServerParameters.model_fields)


def test_the_deadline_is_told_to_the_server_in_microseconds():
    assert _request(timeout_s=1.5).parameters["timeout"].int64_param == 1_500_000
    assert "timeout" not in _request().parameters


def test_the_servers_own_error_comes_before_the_call_is_given_up():
    assert 5.5 <= deadline_s(5) <= 7
    assert deadline_s(None) is None


def test_a_parameter_of_none_is_left_to_the_server():
    assert set(_request(max_tokens=None, stop=None).parameters) == set(_request().parameters)


def test_the_server_is_asked_to_mark_the_end_of_an_answer():
    assert _request().parameters["triton_enable_empty_final_response"].bool_param


def test_every_request_has_an_id_of_its_own():
    assert len({_request().id for _ in range(100)}) == 100
    assert _request(request_id="mine").id == "mine"


def test_messages_travel_as_json():
    messages = [{"role": "user", "content": "Où?"}]
    request = messages_request("audio_flamingo", messages, (), None, None, {})
    assert json.loads(_elements(request, "messages")[0]) == messages


def test_text_that_is_no_unicode_is_refused():
    with pytest.raises(AudioFlamingoError, match="prompt: character 2"):
        _request(prompt="ab\ud800")


def test_the_client_loads_nothing_heavy():
    modules = ["clients", "clients.commands.ask", "clients.commands.chat", "clients.commands.batch"]
    heavy = ["torch", "onnxruntime", "transformers", "tokenizers", "soundfile", "pydantic"]
    code = f"import sys, {', '.join(modules)}; print([m for m in {heavy} if m in sys.modules])"
    folder = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=True
    )
    assert done.stdout.strip() == "[]"


def _value(parameter):
    return getattr(parameter, parameter.WhichOneof("parameter_choice"))
