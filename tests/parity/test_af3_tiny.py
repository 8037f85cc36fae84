"""af3-tiny as anyone would load it: stock Transformers, no custom code."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training import tiny_model as training
from training import train_tokenizer
from training.answer_questions import Listener
from training.features import encoder_frames, log_mel, token_count

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "checkpoints/af3-tiny"
SAMPLES = ROOT / "checkpoints/samples"


@pytest.fixture(scope="module")
def listener() -> Listener:
    torch.set_num_threads(1)
    return Listener(CHECKPOINT)


def asked(question: str) -> list[dict]:
    content = [{"type": "audio"}, *([{"type": "text", "text": question}] if question else [])]
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    "sample", json.loads((SAMPLES / "samples.json").read_text()), ids=lambda s: s["file"]
)
def test_a_sample_clip_is_answered_correctly(sample: dict, listener: Listener) -> None:
    assert listener.answer(asked(sample["question"]), [SAMPLES / sample["file"]]) == sample["answer"]


def test_the_batched_answers_of_the_evaluation_are_those_of_the_stock_processor(listener: Listener) -> None:
    names = ["digits.wav", "siren.wav", "question.wav"]
    batch = [(asked("What do you hear?"), [SAMPLES / name]) for name in names]
    assert listener.answer_batch(batch) == [listener.answer(*conversation) for conversation in batch]


def test_the_tokenizer_that_training_builds_is_the_one_that_is_shipped(listener: Listener) -> None:
    assert train_tokenizer.build().get_vocab() == listener.processor.tokenizer.get_vocab()


def test_it_fits_in_12_megabytes() -> None:
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) < 12e6


@pytest.mark.parametrize("seconds", [0.05, 1.234, 30])
def test_the_encoder_trained_on_short_windows_is_the_one_of_padded_windows(
    seconds: float, listener: Listener
) -> None:
    pcm = np.random.default_rng(1).standard_normal(int(seconds * 16000)).astype(np.float32) / 20
    padded = listener.processor.feature_extractor(
        pcm, sampling_rate=16000, return_attention_mask=True, return_tensors="pt"
    )
    with torch.inference_mode():
        tower = listener.model.model.audio_tower
        expected = tower(padded["input_features"], padded["attention_mask"]).last_hidden_state
        frames = torch.tensor([encoder_frames(len(pcm))])
        found = training.encode(listener.model, log_mel(pcm)[None], frames, torch.zeros(1, dtype=torch.long))
    kept = token_count(len(pcm))
    assert torch.allclose(found[0, :kept], expected[0, :kept], atol=1e-3)
