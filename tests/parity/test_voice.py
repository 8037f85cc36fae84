"""The neural voice against Transformers: a small random VITS checkpoint, exported and spoken."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import VitsConfig, VitsModel, VitsTokenizer

from af3.speech.catalogue import Catalogue, available_voices
from af3.speech.numbers import in_words
from af3.speech.pcm import shape
from af3.speech.vits import VitsSynthesizer
from build_engines import voice
from build_engines.stage import BuildError, run

CHARACTERS = "k'zyuxwvtsrqponmljihgfedcba -"


def save_checkpoint(folder: Path, **changes: object) -> Path:
    """A VITS of 60 000 parameters, with the parts of facebook/mms-tts-eng."""
    torch.manual_seed(0)
    config = VitsConfig(
        vocab_size=len(CHARACTERS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=32,
        flow_size=16,
        spectrogram_bins=33,
        upsample_initial_channel=32,
        upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        duration_predictor_filter_channels=16,
        duration_predictor_num_flows=2,
        prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=2,
        posterior_encoder_num_wavenet_layers=2,
        depth_separable_num_layers=2,
        **changes,
    )
    model = VitsModel(config)
    for attention in (layer.attention for layer in model.text_encoder.encoder.layers):
        torch.nn.init.normal_(attention.emb_rel_k)  # else the relative positions would hardly count
        torch.nn.init.normal_(attention.emb_rel_v)
    model.save_pretrained(folder)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({character: index for index, character in enumerate(CHARACTERS)}))
    VitsTokenizer(str(vocabulary), pad_token="k", unk_token="k", phonemize=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny-voice")


@pytest.fixture(scope="module")
def engines(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output: Path = tmp_path_factory.mktemp("engines")
    run([voice.stage(str(checkpoint))], output)
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
        voice._settings(tokenizer, VitsConfig.from_pretrained(folder), "phonemes")


def test_a_voice_of_several_speakers_is_refused(checkpoint: Path) -> None:
    with pytest.raises(BuildError, match="3 speakers"):
        voice._settings(VitsTokenizer.from_pretrained(checkpoint), VitsConfig(num_speakers=3), "three")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no model\.safetensors"):
        voice.stage(str(tmp_path))


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
