"""Target `rtx`: real TensorRT for RTX builds what is served; its memory plan, its dry run, what it refuses."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

import build_engines.__main__
from af3.encoder.host_encoder import HostEncoder
from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.tensorrt_encoder import TensorRTEncoder
from af3.manifest import Manifest
from build_engines import vllm_plan
from build_engines.memory_plan import AUDIO_FLAMINGO_3
from build_engines.source import reach
from build_engines.stage import BuildError
from build_engines.targets import rtx
from build_engines.targets.target import GIB
from serving.machine.known_gpus import runs_tensorrt_rtx
from tests.support.engines import build_ragged_encoder, random_checkpoint
from tests.unit.af3.test_encoder_tensorrt import StandInDevice

HUB = "nvidia/audio-flamingo-3-hf"


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["build_engines", *map(str, words)])
    return build_engines.__main__.main()


def with_gpu(monkeypatch: pytest.MonkeyPatch, folder: Path, line: str) -> None:
    """`nvidia-smi` that finds this GPU, on an otherwise empty PATH."""
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{line}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize("family", ["af3", "next"])
def test_a_machine_without_a_gpu_builds_engines_that_the_vllm_configs_serve(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    monkeypatch.setenv("PATH", "")
    output = tmp_path / "engines" / "rtx"
    words = ("--target", "rtx", "--checkpoint", random_checkpoint(family=family), "--output", output)
    assert run(monkeypatch, *words) == 0
    assert "built but not compared: there is no nvidia-smi here" in capsys.readouterr().out
    manifest = Manifest.read(output)
    assert (manifest.target, manifest.device) == ("rtx", "cuda")
    assert (manifest.precision.audio_encoder, manifest.precision.llm) == ("bf16", "bf16")
    assert "audio_encoder/model.plan" in manifest.files
    assert "llm/model-00000.safetensors" in manifest.files
    assert not any(name.startswith("encoder_") for name in manifest.files)
    assert manifest.verification["audio_encoder"]["activation_bytes"] > 0
    assert (output.parent / "vllm").readlink() == Path("rtx")
    assert run(monkeypatch, *words) == 0
    assert "audio_encoder: up to date" in capsys.readouterr().out


def test_an_engine_is_compared_with_onnx_runtime_on_windows_of_every_profile() -> None:
    reference = AudioEncoder.load(build_ragged_encoder(), threads=1)
    device = StandInDevice(reference.session)
    engine = HostEncoder(TensorRTEncoder(device))
    assert 0 < rtx.relative_error(engine, reference) < 0.01
    assert {profile for profile, _ in device.captured} == {0, 1, 2}

    class Wrong:
        def encode(self, windows: object) -> list[np.ndarray]:
            return [2 * rows for rows in engine.encode(windows)]  # type: ignore[arg-type]

    assert rtx.relative_error(Wrong(), reference) > 0.9  # type: ignore[arg-type]


def test_a_dry_run_prints_the_plan_and_what_is_missing_and_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert (
        run(monkeypatch, "--target", "rtx", "--checkpoint", HUB, "--output", tmp_path / "o", "--dry-run") == 0
    )
    said = capsys.readouterr().out
    for part in ("no GPU here", "KV cache", "600 s of audio", "would be downloaded", "64 requests at once"):
        assert part in said, part
    for what in ("GPU", "vLLM", "TensorRT for RTX"):
        assert f"MISSING  {what}: " in said or what == "TensorRT for RTX"
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        (
            "NVIDIA H100 80GB HBM3, 9.0, 580.95.05, 81559",
            r"8\.x and 12\.x, and the NVIDIA H100 .* has 9\.0; use GPU=any",
        ),
        (
            "NVIDIA TITAN RTX, 7.5, 580.95.05, 24576",
            r"vLLM needs compute capability 8\.0, and the NVIDIA TITAN RTX has 7\.5; use GPU=cpu or another GPU",
        ),
        (
            "NVIDIA GeForce RTX 4080, 8.9, 580.95.05, 16376",
            "does not fit 16.0 GiB: the KV cache .*; use PRECISION=fp8 or ",
        ),
        (
            "NVIDIA GeForce RTX 3060, 8.6, 580.95.05, 12288",
            "does not fit 12.0 GiB: the audio encoder takes .*; use a GPU with more memory",
        ),
    ],
)
def test_a_gpu_that_cannot_is_refused_before_anything_is_downloaded(
    line: str,
    refused: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with_gpu(monkeypatch, tmp_path / "bin", line)
    assert run(monkeypatch, "--target", "rtx", "--checkpoint", HUB, "--output", tmp_path / "o") == 1
    said = capsys.readouterr().err
    assert re.search(refused, said), said


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
@pytest.mark.parametrize("target", ["any", "rtx"])
@pytest.mark.parametrize("known", [reach.AUDIO_FLAMINGO_3, reach.AUDIO_FLAMINGO_NEXT], ids=["af3", "next"])
@pytest.mark.parametrize(
    ("gpu", "size_gib"), [("a100", 79.3), ("l40s", 44.9), ("rtx4090", 23.5), ("h200", 140)]
)
def test_gpus_with_24_gb_and_more_hold_what_the_model_hears(
    gpu: str, size_gib: float, target: str, precision: str, known: reach.Reach
) -> None:
    memory = vllm_plan.plan(target, precision, int(size_gib * GIB), known)
    if (gpu, precision, known) == ("rtx4090", "bf16", reach.AUDIO_FLAMINGO_NEXT):
        with pytest.raises(BuildError, match="use PRECISION=fp8"):
            vllm_plan.require_fit(memory)
        return
    vllm_plan.require_fit(memory)
    assert memory.requests_at_once(known.clip_seconds) >= 1
    assert memory.rest >= memory.encoder


def test_every_byte_of_the_gpu_has_a_part() -> None:
    memory = vllm_plan.plan("rtx", "bf16", 48 * GIB, reach.AUDIO_FLAMINGO_NEXT)
    parts = memory.llm_weights + memory.llm_work + memory.kv_cache + memory.encoder
    assert abs(parts + (memory.rest - memory.encoder) - memory.gpu_memory) <= 1
    without = vllm_plan.plan("rtx", "bf16", 48 * GIB, reach.AUDIO_FLAMINGO_3)
    assert memory.encoder - without.encoder == 2 * 60 * 750 * 256 * 2  # the tables of the rotation


def test_a_share_that_leaves_the_encoder_no_room_is_refused_with_one_that_does() -> None:
    memory = vllm_plan.plan("rtx", "bf16", 24 * GIB, reach.AUDIO_FLAMINGO_3, share=0.95)
    with pytest.raises(BuildError, match=r"vLLM leaves 1\.2 GiB; use .*gpu_memory_fraction 0\.88 in"):
        vllm_plan.require_fit(memory)
    vllm_plan.require_fit(vllm_plan.plan("rtx", "bf16", 24 * GIB, reach.AUDIO_FLAMINGO_3, share=0.88))


def test_the_share_and_the_step_are_those_of_the_config() -> None:
    config = text_format.Parse(vllm_plan.CONFIG.read_text(), ModelConfig())
    share = float(config.parameters["gpu_memory_fraction"].string_value)
    assert vllm_plan.plan("any", "bf16", GIB, reach.AUDIO_FLAMINGO_3).share == share
    assert vllm_plan.configured_share() == share
    assert AUDIO_FLAMINGO_3.kv_bytes_per_token > 0


def test_tensorrt_for_rtx_knows_the_capabilities_that_its_own_list_names() -> None:
    trt = pytest.importorskip("tensorrt_rtx_bindings")
    names = [name.removeprefix("SM") for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    known = {(int(name[:-1]), int(name[-1])) for name in names}
    assert all(runs_tensorrt_rtx(capability) for capability in known)
    assert not any(runs_tensorrt_rtx(capability) for capability in ((7, 0), (9, 0), (10, 0)))


def test_the_packages_that_serve_are_the_release_that_the_tests_build_with() -> None:
    repository = Path(__file__).parents[3]
    wanted = (repository / "requirements" / "rtx.txt").read_text()
    tested = (repository / "pyproject.toml").read_text()
    for name in ("bindings", "libs"):
        [line] = [line for line in wanted.splitlines() if line.startswith(f"tensorrt-rtx-cu12-{name}==")]
        assert line in tested
