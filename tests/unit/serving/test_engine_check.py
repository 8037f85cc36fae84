"""Engines that do not belong here are refused in one sentence that names both values and what to run."""

import json
import shutil
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

import serving.host.engine_choice
from af3.manifest import GpuIdentity, Manifest, ManifestError
from build_engines.targets import TARGETS
from serving.machine import gpu
from serving.machine.engine_check import require_match
from serving.machine.gpu import FoundGpu, find
from tests.support import standins

BATCH = 8
FOUND = FoundGpu.model_validate(standins.GPU).identity
MODEL = json.loads(Path(__file__).with_name("model_facts.json").read_text())


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """A folder as an H100 build leaves it, without the weights."""
    target = TARGETS["h100"]
    manifest = {
        "format": 2,
        "target": "h100",
        "checkpoint": {"name": "nvidia/audio-flamingo-3-hf", "sha256": "0" * 64},
        "precision": {"audio_encoder": "bf16", "llm": "fp8"},
        "limits": target.limits.model_dump(),
        "model": MODEL,
        "tools": {},
        "files": {"llm/config.json": "0" * 64},
        "verification": {},
        "gpu": FOUND.model_dump(),
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "llm").mkdir()
    limits = target.limits
    engine = {
        "build_config": {
            "max_batch_size": limits.max_batch_size,
            "max_seq_len": limits.max_sequence_tokens,
            "max_prompt_embedding_table_size": target.prompt_table_rows,
        },
        "pretrained_config": {"vocab_size": 151672, "dtype": "bfloat16"},
    }
    (tmp_path / "llm" / "config.json").write_text(json.dumps(engine))
    return tmp_path


def change(path: Path, *keys: str, value: object) -> None:
    """Set one value of a JSON file."""
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))


def refusal(engines: Path, found: GpuIdentity = FOUND, call_batch: int = BATCH) -> str:
    with pytest.raises(ManifestError) as refused:
        require_match(engines, found, call_batch)
    return str(refused.value)


def test_engines_of_this_gpu_are_served(engines):
    assert isinstance(require_match(engines, FOUND, BATCH), Manifest)


@pytest.mark.parametrize(
    ("field", "other", "sentence"),
    [
        (
            "name",
            "NVIDIA H200",
            "the GPU of these engines is NVIDIA H100 80GB HBM3, this machine has NVIDIA H200",
        ),
        ("compute_capability", "8.9", "the compute capability of these engines is 9.0, this GPU has 8.9"),
        (
            "tensorrt",
            "10.13.3.9",
            "the TensorRT version of these engines is 10.11.0.33, this container has 10.13.3.9",
        ),
        (
            "tensorrt_llm",
            "1.1.0",
            "the TensorRT-LLM version of these engines is 1.0.0, this container has 1.1.0",
        ),
    ],
)
def test_another_gpu_or_library_is_refused_with_both_values(engines, field, other, sentence):
    said = refusal(engines, FOUND.model_copy(update={field: other}))
    assert sentence in said
    assert said.endswith("; build them again on this machine: `make engines GPU=h100`")


def test_outside_the_container_nobody_is_sent_to_build_again(engines):
    said = refusal(engines, FOUND.model_copy(update={"tensorrt": "none", "tensorrt_llm": "none"}))
    assert "not the container that serves; `make serve GPU=h100` starts it" in said
    assert "make engines" not in said


def test_another_driver_is_not_another_machine(engines):
    require_match(engines, FOUND.model_copy(update={"driver": "580.95.05"}), BATCH)


def test_a_config_that_asks_for_more_than_the_engine_holds_is_refused(engines):
    said = refusal(engines, call_batch=65)
    assert "max_batch_size of these engines is 32, llm/configs/gpu.pbtxt asks for 65" in said


@pytest.mark.parametrize(
    ("section", "key", "value", "sentence"),
    [
        (
            "build_config",
            "max_batch_size",
            16,
            "the LLM's max_batch_size of these engines is 16, the manifest says 32",
        ),
        (
            "build_config",
            "max_seq_len",
            8192,
            "max_seq_len of these engines is 8192, the manifest says 32024",
        ),
        ("build_config", "max_prompt_embedding_table_size", 0, "prompt table of these engines is 0"),
        (
            "pretrained_config",
            "vocab_size",
            151936,
            "vocabulary of these engines is 151936, the manifest says 151672",
        ),
        ("pretrained_config", "dtype", "float16", "dtype of these engines is float16, the prompt table"),
    ],
)
def test_an_engine_with_other_limits_than_its_manifest_is_refused(engines, section, key, value, sentence):
    change(engines / "llm" / "config.json", section, key, value=value)
    assert sentence in refusal(engines)


def test_engines_of_a_cpu_are_refused_on_a_gpu(engines):
    change(engines / "manifest.json", "gpu", value=None)
    change(engines / "manifest.json", "target", value="cpu")
    assert "these engines are for cpu, the gpu configs serve engines built on a GPU" in refusal(engines)


def test_a_folder_without_engines_says_what_to_run(tmp_path):
    assert "there are no engines here; run `make engines" in refusal(tmp_path / "h100")


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_the_gpu_is_read_from_nvidia_smi(tmp_path, monkeypatch):
    line = "NVIDIA H100 80GB HBM3, 9.0, 575.57.08, 81559"
    nvidia_smi(tmp_path / "bin", monkeypatch, f"echo '{line}'\necho '{line}'")
    found = find()
    assert found.identity.name == "NVIDIA H100 80GB HBM3"
    assert found.identity.compute_capability == "9.0"
    assert found.identity.tensorrt == "none"
    assert found.memory_bytes == 81559 << 20


def test_a_driver_that_fails_is_quoted(tmp_path, monkeypatch):
    reason = "NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver."
    nvidia_smi(tmp_path / "bin", monkeypatch, f"echo '{reason}'; exit 9")
    with pytest.raises(ManifestError, match=r"could not communicate.*make doctor"):
        find()


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("echo 'No devices were found'", "lists no GPU, it says: No devices were found"),
        ("true", "lists no GPU, it says: nothing"),
        ("echo", "lists no GPU, it says: nothing"),
        ("echo 'NVIDIA GB10, 12.1, 580.95.05, [N/A]'", r"how much memory NVIDIA GB10 has, but '\[N/A\]'"),
        ("echo 'NVIDIA X, 9.0, 575.57.08, [Insufficient Permissions]'", "how much memory NVIDIA X has"),
    ],
)
def test_an_odd_answer_of_nvidia_smi_is_quoted(tmp_path, monkeypatch, script, cause):
    nvidia_smi(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(ManifestError, match=cause):
        find()


def test_a_machine_without_a_driver_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ManifestError, match="no nvidia-smi here"):
        find()


def test_engines_that_belong_here_are_linked_to_where_the_configs_look(engines, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "find", lambda: FoundGpu.model_validate(standins.GPU))
    target = tmp_path / "engines" / "h100"
    shutil.copytree(engines, target, ignore=shutil.ignore_patterns("engines"))
    options = serving.host.engine_choice.prepare(target)
    assert serving.host.engine_choice.prepare(target) == options
    # The audio of 32 requests of ten minutes, in BF16.
    assert options == (f"--cuda-memory-pool-byte-size=0:{32 * 15_000 * 3584 * 2}",)
    assert (tmp_path / "engines" / "gpu" / "manifest.json").exists()


def test_the_batch_of_the_config_is_what_triton_reads():
    config = text_format.Parse(
        serving.host.engine_choice.LLM_CONFIG.read_text(), model_config_pb2.ModelConfig()
    )
    assert serving.host.engine_choice.call_batch() == config.max_batch_size
