"""The neural voice against Transformers: a small random VITS checkpoint, exported and spoken."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import VitsConfig, VitsModel, VitsTokenizer

from af3.speech.built_voice import available_voices
from af3.speech.catalogue import Catalogue
from af3.speech.engines.vits import VitsSynthesizer
from af3.speech.engines.vits_interface import GRAPHS
from af3.speech.pcm import shape
from af3.speech.spoken.numbers import in_words
from build_engines.stage import BuildError, run
from build_engines.voice import export_voice
from tests.support.vits_checkpoint import save_checkpoint

CONTRACT = Path(__file__).parents[1] / "contract"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny-voice")


@pytest.fixture(scope="module")
def engines(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output: Path = tmp_path_factory.mktemp("engines")
    run([export_voice.stage(str(checkpoint))], output)
    return output


@pytest.mark.parametrize("text", ["hello, World", "a", "It's  over - there", "five and six " * 20])
@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_the_voice_speaks_what_transformers_speaks(
    checkpoint: Path, engines: Path, text: str, rate: float
) -> None:
    model = VitsModel.from_pretrained(checkpoint).eval()
    model.noise_scale = model.noise_scale_duration = 0.0
    tokens = VitsTokenizer.from_pretrained(checkpoint)(text, return_tensors="pt")
    with torch.no_grad():
        expected = model(**tokens, speaking_rate=rate).waveform[0].numpy()
    spoken = VitsSynthesizer.load(engines / "voice").voice("tiny-voice", rate)
    found = np.concatenate(list(spoken.speak(spoken.speakable(text)))) / 32767
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize("name", GRAPHS)
def test_every_operator_of_the_voice_is_one_that_tensorrt_takes(engines: Path, name: str) -> None:
    supported = json.loads((CONTRACT / "tensorrt_operators.json").read_text())
    model = onnx.load(engines / "voice" / f"{name}.onnx")
    assert {node.op_type for node in model.graph.node} <= set(supported["operators"])
    assert supported["opsets"][0] <= model.opset_import[0].version <= supported["opsets"][1]


def test_speech_begins_before_all_of_it_is_made_and_a_caller_that_leaves_ends_the_work(engines: Path) -> None:
    voice = VitsSynthesizer.load(engines / "voice")
    ran: list[str] = []
    run_graph = voice._graphs.run
    voice._graphs.run = lambda name, values: (ran.append(name), run_graph(name, values))[1]
    speech = voice.voice("tiny-voice", 1.0).speak("five and six " * 20)
    next(speech)
    assert ran == ["text", "flow", "decoder"]
    speech.close()
    assert ran == ["text", "flow", "decoder"]


def test_a_built_voice_is_the_default_and_the_offline_ones_stay(engines: Path, tmp_path: Path) -> None:
    assert available_voices(engines)[:2] == ("tiny-voice", "en-us")
    assert available_voices(tmp_path)[0] == "en-us"
    catalogue = Catalogue.load(engines, threads=1)
    try:
        assert catalogue.voices == available_voices(engines)
        for name, hz in (("tiny-voice", 16000), ("en-us", 22050)):
            opened = catalogue.voice(name, 1.0)
            assert opened.sample_rate == hz
            assert sum(map(len, shape(opened.speak("hello"), hz, 0.0))) > 0
    finally:
        catalogue.close()


def test_characters_the_voice_does_not_know_are_left_out_and_numbers_spelled(engines: Path) -> None:
    opened = VitsSynthesizer.load(engines / "voice").voice("tiny-voice", 1.0)
    assert opened.speakable("It costs 42!") == "it costs forty-two".replace("-", " ")
    assert opened.speakable("你好") == ""


def test_a_voice_that_needs_other_programs_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "phonemes")
    tokenizer = VitsTokenizer.from_pretrained(folder)
    tokenizer.is_uroman = True
    with pytest.raises(BuildError, match="uroman"):
        export_voice._settings(tokenizer, VitsConfig.from_pretrained(folder), "phonemes")


def test_a_voice_of_several_speakers_is_refused(checkpoint: Path) -> None:
    with pytest.raises(BuildError, match="3 speakers"):
        export_voice._settings(VitsTokenizer.from_pretrained(checkpoint), VitsConfig(num_speakers=3), "three")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no model\.safetensors"):
        export_voice.stage(str(tmp_path))


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("0", "zero"),
        ("42", "forty two"),
        ("1,001", "one thousand one"),
        ("-3.05%", "minus three point zero five percent"),
        ("2,345,678", "two million three hundred forty five thousand six hundred seventy eight"),
        ("007", "zero zero seven"),
        ("a 12 and 300.", "a twelve and three hundred."),
    ],
)
def test_numbers_are_spelled_out(written: str, spoken: str) -> None:
    assert in_words(written) == spoken
