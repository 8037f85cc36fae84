"""Values of every kind that people have: samples, rates, numbers of numpy, times; none ends in a traceback."""

import numpy as np
import pytest
import soundfile

from clients import AudioFlamingoError, Samples
from clients.request import deadline_s, prompt_request
from clients.sound.samples import wav


def request(audio=(), timeout_s=None, **parameters):
    return prompt_request("audio_flamingo", audio, "?", timeout_s, None, parameters)


@pytest.mark.parametrize("hz", [44100.0, np.float32(44100), np.int64(44100), 44100])
def test_a_rate_may_be_any_whole_number(hz, tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(Samples(np.zeros(5), hz), "audio[0]"))
    assert soundfile.info(tmp_path / "a.wav").samplerate == 44100


@pytest.mark.parametrize("hz", [0, -1, 0.5, 44100.5, float("nan"), float("inf"), 1e12, "16k", None])
def test_what_is_no_rate_is_refused(hz):
    with pytest.raises(AudioFlamingoError, match=r"audio\[0\]: hz is .* such as 16000"):
        request(Samples(np.zeros(5), hz))


def test_a_list_of_floats_is_samples_too(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(Samples([0.5, -0.5], 16000), "audio[0]"))
    assert soundfile.read(tmp_path / "a.wav")[0].tolist() == [0.5, -0.5]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.zeros((2, 70_000)), "70000 channels"),
        (np.zeros((2, 0)), "0 channels"),
        (np.zeros((1, 1, 1)), r"shape \(1, 1, 1\)"),
        ([1, 2], "int64, not floats"),
        ([[0.1], [0.1, 0.2]], "no array"),
        (None, "object, not floats"),
    ],
)
def test_what_is_no_sound_is_refused(values, sentence):
    with pytest.raises(AudioFlamingoError, match=sentence):
        request(Samples(values, 16000))


@pytest.mark.parametrize(
    ("audio", "kind"),
    [
        (np.zeros(5), "ndarray"),
        (np.zeros((2, 5)), "ndarray"),
        (5, "int"),
        (None, "NoneType"),
        ([0.5], "float"),
    ],
)
def test_a_clip_of_the_wrong_type_is_refused_with_a_right_way_to_send_it(audio, kind):
    with pytest.raises(
        AudioFlamingoError, match=rf"audio\[0\]: a {kind} is no clip; .*Samples\(values, hz\)"
    ):
        request(audio)


def test_clips_may_come_from_a_generator_and_as_a_bytearray():
    assert request(bytearray(b"a")).raw_input_contents[0] == b"\x01\0\0\0a"
    assert list(request(clip for clip in (b"a", b"b")).inputs[0].shape) == [2]


@pytest.mark.parametrize(
    ("value", "field", "sent"),
    [
        (np.int64(5), "int64_param", 5),
        (np.uint8(5), "int64_param", 5),
        (np.float32(0.5), "double_param", 0.5),
        (np.float64(0.5), "double_param", 0.5),
        (np.bool_(True), "bool_param", True),
        (True, "bool_param", True),
    ],
)
def test_numbers_of_numpy_are_numbers(value, field, sent):
    parameter = request(temperature=value).parameters["temperature"]
    assert parameter.WhichOneof("parameter_choice") == field
    assert getattr(parameter, field) == sent


def test_what_is_no_parameter_is_named_with_its_type():
    with pytest.raises(
        AudioFlamingoError, match="'x': must be a string, a 64-bit number or a bool, got dict"
    ):
        request(x={})
    with pytest.raises(AudioFlamingoError, match="parameter 'stop': cannot be written as JSON"):
        request(stop=[b"end"])


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e13, 0, -1])
def test_what_is_no_time_to_wait_is_refused(seconds):
    with pytest.raises(AudioFlamingoError, match=r"timeout: .* is no time to wait"):
        request(timeout_s=seconds)
    with pytest.raises(AudioFlamingoError):
        deadline_s(seconds)
