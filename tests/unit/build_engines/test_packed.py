"""Checkpoints whose LLM is quantised already: what vLLM is given, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from af3.manifest import Manifest, ManifestError
from build_engines import build_vllm, memory_plan, stage, vllm_plan
from build_engines.__main__ import main
from build_engines.llm import lora, qwen
from build_engines.source import hub_checkpoint, quantised, think
from build_engines.source.checkpoint import open_checkpoint
from build_engines.source.packed import open_for_vllm, served_bytes
from build_engines.source.quantised import METHODS, Method
from build_engines.stage import BuildError
from build_engines.targets import any as any_gpu
from build_engines.targets import nvidia
from build_engines.targets.target import GIB
from tests.support import packed_checkpoint as packed
from tests.support import vllm
from tests.support.engines import random_checkpoint
from tests.support.packed_checkpoint import Written

HUB = "someone/audio-flamingo-3-awq"
LAYER = "language_model.model.layers.0.mlp.down_proj"


@pytest.fixture(autouse=True)
def _avx_512(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM needs it for packed weights on a CPU; the processor of the tests may lack it."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


def build(monkeypatch: pytest.MonkeyPatch, checkpoint: Path | str, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["build_engines", "--checkpoint", str(checkpoint), *words])
    return main()


@pytest.mark.parametrize("method", METHODS)
def test_packed_tensors_reach_vllm_unchanged_and_their_config_says_how(
    method: Method, written: dict[Method, Written], tmp_path: Path
) -> None:
    source = open_for_vllm(str(written[method].packed))
    figures = qwen.build(source, None, tmp_path)
    given = load_file(written[method].packed / packed.WEIGHTS)
    names = {
        name: name.removeprefix("language_model.")
        for name in given
        if name.startswith("language_model.") and not name.endswith("g_idx")
    }
    found = load_file(tmp_path / "model-00000.safetensors")
    assert set(found) == set(names.values())
    assert all(torch.equal(found[served], given[name]) for name, served in names.items())
    assert all(found[served].dtype == given[name].dtype for name, served in names.items())
    assert (figures["quantised"], figures["bits"], figures["group"]) == (14, 4, 32)
    settings = json.loads((tmp_path / packed.CONFIG).read_text())["quantization_config"]
    assert settings["quant_method"] == method
    assert quantised.read(Path("config.json"), {"quantization_config": settings}) == source.quantisation


def test_layers_that_are_not_quantised_are_named_where_vllm_does_not_see_it(tmp_path: Path) -> None:
    source = packed.write(random_checkpoint(), tmp_path, "compressed-tensors", whole="layers.1.mlp").packed
    qwen.build(open_for_vllm(str(source)), None, tmp_path)
    ignored = json.loads((tmp_path / packed.CONFIG).read_text())["quantization_config"]["ignore"]
    assert ignored == ["lm_head", *(f"model.layers.1.mlp.{name}_proj" for name in ("down", "gate", "up"))]


def test_the_packed_numbers_are_the_twins(written: dict[Method, Written]) -> None:
    """By the formula of GPTQ: (code - (stored zero + 1)) * scale."""
    given, numbers = (
        load_file(folder / packed.WEIGHTS) for folder in (written["gptq"].packed, written["gptq"].twin)
    )
    shifts = torch.arange(0, 32, 4)
    codes = ((given[f"{LAYER}.qweight"][:, None] >> shifts[:, None]) & 15).flatten(0, 1)
    zeros = ((given[f"{LAYER}.qzeros"][..., None] >> shifts) & 15).flatten(1) + 1
    groups = given[f"{LAYER}.g_idx"]
    weight = (codes - zeros[groups]) * given[f"{LAYER}.scales"][groups].float()
    assert torch.equal(weight.T, numbers[f"{LAYER}.weight"])
    assert torch.equal(numbers[f"{LAYER}.weight"].bfloat16().float(), numbers[f"{LAYER}.weight"])


def test_the_manifest_and_the_settings_of_vllm_say_how_the_weights_are_packed(
    written: dict[Method, Written], tmp_path: Path
) -> None:
    source = open_for_vllm(str(written["awq"].packed))
    sources = any_gpu.Sources(source, {})
    stamps = stage.run([one for one in any_gpu.stages(sources) if one.name == "llm"], tmp_path)
    precision = any_gpu.precision_of("cpu", None, source.quantisation)
    any_gpu.write_manifest(sources, "cpu", precision, stamps, tmp_path)
    manifest = Manifest.read(tmp_path)
    assert manifest.precision.llm == "awq"
    assert manifest.verification["llm"]["quantised"] == 14


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_the_memory_plan_counts_every_byte_that_vllm_loads(
    method: Method, written: dict[Method, Written], tmp_path: Path
) -> None:
    source = open_for_vllm(str(written[method].packed))
    qwen.build(source, None, tmp_path)
    loaded = load_file(tmp_path / "model-00000.safetensors")
    assert served_bytes(source) == sum(tensor.nbytes for tensor in loaded.values())
    assert source.quantisation is not None
    bits = source.quantisation.bits_per_weight
    known = load_file(written[method].twin / packed.WEIGHTS)
    beside = [  # GPTQ's biases of zeros
        tensor.nbytes
        for name, tensor in loaded.items()
        if name.endswith(".bias") and f"language_model.{name}" not in known
    ]
    assert len(beside) == (8 if method == "gptq" else 0)
    assert vllm_plan.llm_bytes(nvidia.geometry(source), bits) == served_bytes(source) - sum(beside)


def test_a_plan_of_the_full_size_counts_four_bits_and_does_not_offer_fp8() -> None:
    full = vllm_plan.plan("any", "awq", 24 * GIB, vllm_plan.reach.AUDIO_FLAMINGO_3)
    linear = memory_plan.AUDIO_FLAMINGO_3.quantised_weights
    rest = memory_plan.AUDIO_FLAMINGO_3.bf16_weights * 2
    assert full.llm_weights == int(linear * (4 + (16 + 4) / 128) / 8) + rest
    assert full.shortage is None
    small = vllm_plan.plan("any", "awq", 8 * GIB, vllm_plan.reach.AUDIO_FLAMINGO_3)
    with pytest.raises(BuildError, match=r"use .*a GPU with more memory") as refused:
        vllm_plan.require_fit(small)
    assert "fp8" not in str(refused.value)


@pytest.mark.parametrize("wanted", ["fp8", "bf16", "gptq"])
def test_a_precision_that_is_not_the_checkpoints_is_refused(
    wanted: str,
    written: dict[Method, Written],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--target", "any", "--precision", wanted, "--dry-run"]
    assert build(monkeypatch, written["awq"].packed, *words) == 1
    said = capsys.readouterr().err
    assert (
        f"PRECISION={wanted}: the checkpoint's LLM is quantised already (awq, 4 bits, groups of 32)" in said
    )
    assert "leave PRECISION out" in said


def test_a_cpu_multiplies_four_bits_and_needs_avx_512(monkeypatch: pytest.MonkeyPatch) -> None:
    eight = {"quant_method": "gptq", "bits": 8, "group_size": 128, "sym": True, "desc_act": False}
    found = quantised.read(Path("config.json"), {"quantization_config": eight})
    assert any_gpu.precision_of("any", None, found) == "gptq"
    with pytest.raises(BuildError, match=r"gptq, 8 bits.*multiplies 4 bits alone; serve it with GPU=any"):
        any_gpu.precision_of("cpu", None, found)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.raises(BuildError, match="AVX-512 alone, which this one lacks"):
        any_gpu.precision_of("cpu", None, quantised.usual("awq"))
    assert any_gpu.precision_of("rtx", "awq", quantised.usual("awq")) == "awq"


@pytest.mark.parametrize("words", [["--target", "cpu"], ["--target", "h100", "--dry-run"]])
@pytest.mark.parametrize("method", METHODS)
def test_without_vllm_a_quantised_checkpoint_is_refused_with_the_remedy(
    method: Method,
    words: list[str],
    written: dict[Method, Written],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert build(monkeypatch, written[method].packed, *words, "--output", str(tmp_path / "engines")) == 1
    said = capsys.readouterr().err
    assert (
        f"quantised already ({method}), which only vLLM serves: make engines GPU=any, GPU=rtx or LLM=vllm"
        in said
    )
    assert not (tmp_path / "engines" / "llm").exists()


def test_a_dry_run_plans_with_the_bytes_of_the_packed_weights(
    written: dict[Method, Written], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned: list[int] = []
    monkeypatch.setattr(build_vllm.cpu_plan, "describe", lambda *given: planned.append(given[3]) or given[2])
    words = ["--target", "cpu", "--llm", "vllm", "--dry-run"]
    assert build(monkeypatch, written["awq"].packed, *words) == 0
    assert planned == [served_bytes(open_for_vllm(str(written["awq"].packed)))]
    assert "awq" in capsys.readouterr().out
    assert build(monkeypatch, HUB, "--target", "any", "--precision", "gptq", "--dry-run") == 0
    assert weights_rows(capsys.readouterr().out) == ["gptq"] * 2
    published = "nvidia/audio-flamingo-3-hf"
    assert build(monkeypatch, published, "--target", "any", "--precision", "gptq", "--dry-run") == 1
    assert "PRECISION=gptq: the checkpoint is not quantised" in capsys.readouterr().err


def weights_rows(said: str) -> list[str]:
    """The precision of the LLM in each plan."""
    return [line.split(";")[0].split()[-1] for line in said.splitlines() if line.startswith("  LLM weights")]


def test_the_plan_before_the_download_knows_how_a_hub_checkpoint_is_quantised(
    written: dict[Method, Written], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On 20 GiB, where BF16 has no room; only the small files may be downloaded before."""
    small = SimpleNamespace(
        memory_bytes=20 * GIB, identity=SimpleNamespace(name="small", compute_capability="8.9")
    )
    monkeypatch.setattr(build_vllm.gpu, "find", lambda: small)
    asked: list[list[str]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        if any(pattern.endswith(".safetensors") for pattern in allow_patterns):
            raise ConnectionError("the weights are not needed here")
        return str(written["awq"].packed)

    monkeypatch.setattr(hub_checkpoint, "snapshot_download", download)
    assert build(monkeypatch, HUB, "--target", "any") == 1
    said = capsys.readouterr()
    assert "the weights are not needed here" in said.err
    assert weights_rows(said.out) == ["awq"]
    assert vllm_plan.plan("any", "bf16", small.memory_bytes, vllm_plan.reach.AUDIO_FLAMINGO_3).shortage


def test_adapters_fit_packed_layers_too(written: dict[Method, Written], tmp_path: Path) -> None:
    source = open_for_vllm(str(written["gptq"].packed))
    vllm.write_adapter(source.folder, tmp_path / "given")
    adapter = think.read_adapter(tmp_path / "given", source)
    lora.build(source, {"one": adapter}, tmp_path)
    assert len(load_file(tmp_path / "one" / think.WEIGHTS)) == 2 * 14
    plain = think.read_adapter(tmp_path / "given", open_checkpoint(str(random_checkpoint())))
    assert plain.names == adapter.names


def test_without_a_gpu_the_plan_of_others_is_printed(
    written: dict[Method, Written], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> None:
        raise ManifestError("no GPU; none")

    monkeypatch.setattr(build_vllm.gpu, "find", missing)
    assert build(monkeypatch, written["compressed-tensors"].packed, "--target", "rtx", "--dry-run") == 0
    assert weights_rows(capsys.readouterr().out) == ["compressed-tensors"] * 2
