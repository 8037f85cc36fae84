"""A manifest is read back as it was written, and what is wrong with one is said to the operator."""

import json
from pathlib import Path
from typing import Any

import pytest

from af3.manifest import CheckpointIdentity, Limits, Manifest, ManifestError, ModelFacts, Precision


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        target="cpu",
        checkpoint=CheckpointIdentity(name="nvidia/audio-flamingo-3-hf", sha256="ab" * 32),
        precision=Precision(audio_encoder="fp32", llm="int4"),
        limits=Limits(
            max_windows_per_clip=20,
            max_audio_tokens=15_000,
            max_text_tokens=16_000,
            max_output_tokens=1024,
            max_sequence_tokens=32_024,
            max_batch_size=8,
        ),
        model=ModelFacts(
            hidden_size=3584,
            vocab_size=151_672,
            layers=28,
            kv_heads=4,
            head_dim=128,
            audio_token_id=151_669,
            clip_begin_ids=(),
            clip_end_ids=(),
            rotates_by_time=False,
            im_start_id=151_644,
            im_end_id=151_645,
            stop_token_ids=(151_645, 151_643),
            pad_token_id=151_643,
            default_system_prompt="You are a helpful assistant.",
        ),
        tools={"onnxruntime": "1.32.0"},
        files={"llm/decoder.onnx": "cd" * 32},
        verification={"llm": {"relative_error": 2.3e-6}},
    )


@pytest.fixture
def engines(tmp_path: Path, manifest: Manifest) -> Path:
    """Folder of engines whose one file is there."""
    folder = tmp_path / "cpu"
    (folder / "llm").mkdir(parents=True)
    (folder / "llm" / "decoder.onnx").touch()
    manifest.write(folder)
    return folder


def edit(engines: Path, **changes: Any) -> None:
    path = engines / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def complaint(engines: Path) -> str:
    with pytest.raises(ManifestError) as error:
        Manifest.read(engines)
    return str(error.value)


def test_a_manifest_is_read_as_it_was_written(engines: Path, manifest: Manifest) -> None:
    assert Manifest.read(engines) == manifest


def test_no_engines_names_the_command_that_builds_them(tmp_path: Path) -> None:
    path = tmp_path / "cpu" / "manifest.json"
    assert complaint(tmp_path / "cpu") == f"{path}: there are no engines here; run `make engines GPU=cpu`"


def test_another_format_is_named_beside_the_one_that_is_read(engines: Path) -> None:
    edit(engines, format=7)
    assert "format is 7: Input should be 2; run `make engines GPU=cpu`" in complaint(engines)


def test_a_wrong_value_is_named_with_its_place(engines: Path) -> None:
    edit(engines, precision={"audio_encoder": "fp32", "llm": "int3"})
    assert 'precision.llm is "int3": Input should be' in complaint(engines)


def test_an_unknown_field_is_refused(engines: Path) -> None:
    edit(engines, owner="me")
    assert 'owner is "me": Extra inputs are not permitted' in complaint(engines)


def test_a_file_cut_short_is_no_manifest(engines: Path) -> None:
    path = engines / "manifest.json"
    path.write_text(path.read_text()[:100])
    assert "Invalid JSON" in complaint(engines)


def test_json_that_is_no_object_is_no_manifest(engines: Path) -> None:
    (engines / "manifest.json").write_text("[]")
    assert "the file is []: Input should be an object" in complaint(engines)


def test_a_missing_artifact_is_named(engines: Path) -> None:
    (engines / "llm" / "decoder.onnx").unlink()
    assert "it names llm/decoder.onnx, which is not there" in complaint(engines)
