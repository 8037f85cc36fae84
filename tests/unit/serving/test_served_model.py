"""What the launcher says of the model it serves."""

from types import SimpleNamespace

import pytest

from serving.host.served_model import served_model


def manifest(name: str) -> SimpleNamespace:
    precision = SimpleNamespace(audio_encoder="fp32", llm="int4")
    return SimpleNamespace(checkpoint=SimpleNamespace(name=name), precision=precision)


@pytest.mark.parametrize("name", ["checkpoints/af3-tiny", "/home/me/af3-tiny/", "af3-tiny"])
def test_af3_tiny_is_said_to_be_a_demonstration(name: str) -> None:
    said = served_model(manifest(name))
    assert name in said
    assert "for demonstration" in said
    assert "make engines CHECKPOINT=" in said


def test_another_model_is_named_with_its_precision_alone() -> None:
    assert served_model(manifest("nvidia/audio-flamingo-3-hf")) == (
        "model     nvidia/audio-flamingo-3-hf (encoder fp32, LLM int4)"
    )
