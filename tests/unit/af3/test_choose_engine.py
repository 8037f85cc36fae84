"""What decides which engines run where, and which adapter answers."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import SimpleNamespace

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from af3.adapters import adapter_of
from af3.encoder import choose as encoder_choice
from af3.encoder.host_encoder import HostEncoder
from af3.errors import RequestError
from af3.llm import vllm_engine
from af3.llm.choose import load_engine, vllm_settings
from af3.manifest import ManifestError, Precision
from serving.host.launch import CONFIG_OF_TARGET, target_of
from serving.host.triton import MODEL_REPOSITORY
from serving.steps.settings import LlmSettings
from tests.support.tiny import LIMITS, MODEL, manifest


def vllm_config() -> LlmSettings:
    text = (MODEL_REPOSITORY / "llm" / "configs" / "vllm.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(text, ModelConfig())
    return LlmSettings.from_config(json_format.MessageToDict(config, preserving_proto_field_name=True))


def test_a_gpu_and_a_cpu_get_the_same_settings_but_for_the_device_and_the_precision() -> None:
    cpu = manifest()
    gpu = manifest(target="any", precision=Precision(audio_encoder="fp32", llm="fp8"))
    of_cpu, of_gpu = (vars(vllm_settings(one, vllm_config())) for one in (cpu, gpu))
    changed = {name: (of_cpu[name], of_gpu[name]) for name in of_cpu if of_cpu[name] != of_gpu[name]}
    assert changed == {
        "device": ("cpu", "cuda"),
        "dtype": ("float32", "bfloat16"),
        "quantization": (None, "fp8"),
    }


@pytest.mark.parametrize("method", ["awq", "gptq", "compressed-tensors"])
def test_packed_weights_are_multiplied_in_bf16_as_their_own_config_says(method: str) -> None:
    packed = manifest(precision=Precision(audio_encoder="fp32", llm=method))  # type: ignore[arg-type]
    settings = vllm_settings(packed, vllm_config())
    assert (settings.dtype, settings.quantization) == ("bfloat16", method)


def test_a_prefix_cache_too_small_for_one_block_is_refused(tmp_path: Path) -> None:
    full_size = MODEL.model_copy(update={"layers": 28, "kv_heads": 4, "head_dim": 128})
    manifest(model=full_size).write(tmp_path)
    settings = LlmSettings(
        engine_dir=tmp_path, slots=1, max_queue=1, prefill_tokens=1, threads=1, prefix_cache_mib=1
    )
    with pytest.raises(ManifestError, match=r"prefix_cache_mib 1 holds no block of 16 tokens, .* 1.8 MiB"):
        load_engine(settings, SimpleNamespace())  # type: ignore[arg-type]


def test_the_kv_cache_of_a_cpu_grows_with_the_longest_request_of_the_checkpoint() -> None:
    """Half an hour, at the full size of Audio Flamingo Next: more than the config's 2 GiB."""
    full = {"layers": 28, "kv_heads": 4, "head_dim": 128}
    long = manifest(
        model=MODEL.model_copy(update=full), limits=LIMITS.model_copy(update={"max_sequence_tokens": 65_096})
    )
    settings = vllm_settings(long, vllm_config())
    needed = 65_096 * 28 * 2 * 4 * 128 * 4 / 2**30
    assert settings.max_sequence_tokens == 65_096
    assert needed < settings.kv_cache_gib < 1.01 * needed
    half = long.model_copy(update={"precision": Precision(audio_encoder="fp32", llm="bf16")})
    assert vllm_settings(half, vllm_config()).kv_cache_gib == settings.kv_cache_gib / 2
    assert vllm_settings(manifest(), vllm_config()).kv_cache_gib == vllm_config().kv_cache_gib


def test_vllm_s_threads_sleep_between_two_tokens_of_a_cpu_unless_the_operator_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Spinning, they take the cores from the other steps, which are the other half of every token."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    settings = vllm_settings(manifest(), vllm_config())
    found = vllm_engine.environment(settings)
    assert (found["OMP_WAIT_POLICY"], found["OMP_NUM_THREADS"]) == ("PASSIVE", "2")
    gpu = manifest(target="any", precision=Precision(audio_encoder="fp32", llm="bf16"))
    assert "OMP_WAIT_POLICY" not in vllm_engine.environment(vllm_settings(gpu, vllm_config()))
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert vllm_engine.environment(settings)["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.parametrize(
    ("target", "provider"), [("cpu", "CPUExecutionProvider"), ("any", "CUDAExecutionProvider")]
)
def test_the_encoder_runs_where_the_manifest_says(
    target: str, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(target=target).write(tmp_path)
    asked: list[str] = []

    class Loaded:
        session = type("Session", (), {"get_providers": staticmethod(lambda: [provider])})

        @classmethod
        def load(cls, folder: Path, wanted: str, threads: int, moved: object) -> Loaded:
            asked.append(wanted)
            return cls()

    monkeypatch.setattr(encoder_choice, "AudioEncoder", Loaded)
    encoder_choice.load_encoder(tmp_path / "audio_encoder", "auto", 1)
    assert asked == [provider]


def test_engines_for_rtx_run_on_tensorrt_for_rtx_and_give_their_embeddings_to_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(target="rtx").write(tmp_path)
    asked: list[tuple[str, str]] = []

    class Loaded:
        @classmethod
        def load(cls, folder: Path, library: str = "tensorrt") -> Loaded:
            asked.append((folder.name, library))
            return cls()

    monkeypatch.setattr(encoder_choice, "TensorRTEncoder", Loaded)
    assert isinstance(encoder_choice.load_encoder(tmp_path / "audio_encoder", "auto", 1), HostEncoder)
    assert asked == [("audio_encoder", "tensorrt_rtx_bindings")]


class WithoutCuda(MetaPathFinder):
    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name.partition(".")[0] == "cuda":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize("provider", ["TensorRT", "TensorRT for RTX"])
def test_a_library_that_is_not_installed_is_said_with_what_installs_it(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's bindings come with some builds of torch: here they are hidden."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "cuda"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [WithoutCuda(), *sys.meta_path])
    with pytest.raises(ManifestError, match=r"No module named 'cuda.*`make setup-vllm GPU=rtx`"):
        encoder_choice.load_encoder(tmp_path, provider, 1)


def test_a_provider_that_onnx_runtime_lacks_is_an_error_and_not_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loaded:
        session = type("Session", (), {"get_providers": staticmethod(lambda: ["CPUExecutionProvider"])})

        @classmethod
        def load(cls, folder: Path, wanted: str, threads: int, moved: object) -> Loaded:
            return cls()

    monkeypatch.setattr(encoder_choice, "AudioEncoder", Loaded)
    with pytest.raises(ManifestError, match="has no CUDAExecutionProvider here; `make setup-vllm GPU=any`"):
        encoder_choice.load_encoder(tmp_path, "CUDAExecutionProvider", 1)


def test_thinking_takes_its_adapter_where_it_was_built() -> None:
    assert adapter_of({"think": True}, ["think", "other"]) == "think"
    assert adapter_of({"think": True}, []) is None
    assert adapter_of({"think": False}, ["think"]) is None
    assert adapter_of({"think": True, "adapter": "other"}, ["think", "other"]) == "other"
    with pytest.raises(RequestError, match="there is no 'more'; these engines have: none"):
        adapter_of({"adapter": "more"}, [])


@pytest.mark.parametrize(
    ("given", "llm", "target", "config"),
    [
        ("cpu", None, "cpu", "cpu"),
        ("cpu", "vllm", "cpu-vllm", "vllm"),
        ("any", None, "any", "vllm"),
        ("h100", "vllm", "any", "vllm"),
        ("rtx", None, "rtx", "vllm"),
        ("rtx", "vllm", "rtx", "vllm"),
        ("h100", None, "h100", "gpu"),
    ],
)
def test_gpu_and_llm_name_the_engines_and_the_configs(
    given: str, llm: str | None, target: str, config: str
) -> None:
    assert target_of(given, llm) == target
    assert CONFIG_OF_TARGET.get(target, "gpu") == config
