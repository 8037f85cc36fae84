"""make doctor on machines that lack one thing after the other."""

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serving.machine import doctor
from serving.machine.doctor import Finding

H100 = "NVIDIA H100 80GB HBM3, 9.0, 575.57.08, 81559"
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH to put stand-ins on."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def state(found: list[Finding], what: str) -> str:
    [finding] = [entry for entry in found if entry.what == what]
    return finding.state


def remedy(found: list[Finding], what: str) -> str:
    return next(entry.remedy for entry in found if entry.what == what)


def test_a_machine_with_everything_passes(programs):
    program(programs, "nvidia-smi", f"echo '{H100}'")
    program(programs, "docker", 'echo \'{"nvidia":{},"runc":{}}\'')
    found = [*doctor.check_gpu("h100"), *doctor.check_container()]
    assert {finding.state for finding in found} == {"ok"}
    assert [finding.what for finding in found] == [
        "GPU",
        "driver",
        "Docker",
        "NVIDIA Container Toolkit",
        "image",
    ]


def test_a_machine_without_a_driver_is_told_where_to_get_one(programs):
    found = list(doctor.check_gpu("h100"))
    assert state(found, "GPU") == "missing"
    assert "nvidia.com/drivers" in remedy(found, "GPU")


def test_another_gpu_than_asked_for_is_named(programs):
    program(programs, "nvidia-smi", "echo 'NVIDIA L40S, 8.9, 575.57.08, 46068'")
    found = list(doctor.check_gpu("h100"))
    assert state(found, "GPU") == "missing"
    assert "it is no H100" in remedy(found, "GPU")


def test_an_old_driver_is_a_warning_with_the_version_it_should_be(programs):
    program(programs, "nvidia-smi", "echo 'NVIDIA H100 80GB HBM3, 9.0, 550.54.15, 81559'")
    found = list(doctor.check_gpu("h100"))
    assert state(found, "driver") == "warning"
    assert "575.57 or newer" in remedy(found, "driver")


def test_docker_that_is_missing_stopped_or_without_nvidia_is_reported(programs):
    assert state(list(doctor.check_container()), "Docker") == "missing"
    program(programs, "docker", "exit 1")
    assert "systemctl start docker" in remedy(list(doctor.check_container()), "Docker")
    program(programs, "docker", 'case "$1 $2" in "version --format") echo 28.2;; *) exit 1;; esac')
    found = list(doctor.check_container())
    assert state(found, "NVIDIA Container Toolkit") == "missing"
    assert state(found, "image") == "warning"
    assert "docker pull nvcr.io/nvidia/tritonserver:25.10" in remedy(found, "image")


def test_inside_the_container_docker_is_not_asked_for(programs):
    program(programs, "trtllm-build", "")
    [finding] = doctor.check_container()
    assert finding.state == "ok"


def test_a_taken_port_is_a_warning(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(doctor, "PORTS", {"HTTP": taken.getsockname()[1]})
        [finding] = doctor.check_ports()
    assert finding.state == "warning"
    assert "make serve HTTP_PORT=" in finding.remedy


def test_too_small_a_disk_and_memory_are_said_with_what_is_needed(tmp_path):
    disk, memory = doctor.check_disk(tmp_path, 10**9), doctor.check_memory(10**9)
    assert disk.state == "missing"
    assert memory.state == "warning"
    assert f"{10**9} GB are needed" in disk.remedy


def test_the_report_puts_the_remedy_below_what_is_missing():
    found = [Finding("Python", "ok", "3.11.7"), Finding("GPU", "missing", "none", "buy one")]
    assert doctor.report(found).splitlines() == [
        "ok       Python: 3.11.7",
        "MISSING  GPU: none",
        "         → buy one",
    ]


def test_the_command_fails_when_something_is_missing():
    command = [sys.executable, "-m", "serving.machine.doctor", "--target", "h100"]
    environment = {"PATH": ""}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "MISSING  GPU" in done.stdout
    assert "MISSING  Docker" in done.stdout


@pytest.mark.parametrize(
    ("gpu", "states"),
    [
        ("NVIDIA L4, 8.9, 580.95.05, 23034", ("ok", "ok", "ok")),
        ("NVIDIA L4, 8.9, 575.57.08, 23034", ("ok", "missing", "ok")),
        ("NVIDIA GeForce RTX 4080, 8.9, 580.95.05, 16376", ("ok", "ok", "warning")),
        ("NVIDIA A10, 8.6, 580.95.05, 16376", ("ok", "ok", "missing")),
        ("NVIDIA A100-SXM4-40GB, 8.0, 580.95.05, 40960", ("ok", "ok", "ok")),
        ("NVIDIA TITAN RTX, 7.5, 580.95.05, 24576", ("missing", "ok", "ok")),
        ("Tesla V100-SXM2-32GB, 7.0, 580.95.05, 32510", ("missing", "ok", "ok")),
    ],
)
def test_any_gpu_is_judged_by_what_cuda_and_the_model_need(
    gpu: str, states: tuple[str, ...], programs: Path
) -> None:
    program(programs, "nvidia-smi", f"echo '{gpu}'")
    found = doctor.findings("any")
    assert tuple(state(found, what) for what in ("GPU", "driver", "GPU memory")) == states


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        ("NVIDIA GeForce RTX 3090, 8.6, 580.95.05, 24576", "ok"),
        ("NVIDIA H100 80GB HBM3, 9.0, 580.95.05, 81559", "missing"),
    ],
)
def test_rtx_is_for_the_gpus_that_tensorrt_for_rtx_knows(gpu: str, expected: str, programs: Path) -> None:
    program(programs, "nvidia-smi", f"echo '{gpu}'")
    found = doctor.findings("rtx")
    assert state(found, "GPU") == expected
    assert remedy(found, "vLLM") == "run `make setup-vllm GPU=rtx`"
    # CUDA's bindings come with some builds of torch.
    here = importlib.util.find_spec("cuda") and importlib.util.find_spec("cuda.bindings")
    assert state(found, "TensorRT for RTX") == ("ok" if here else "missing")
    assert "ONNX Runtime on CUDA" not in [finding.what for finding in found]


def test_what_any_gpu_needs_of_python_is_installed_by_one_command(programs: Path) -> None:
    found = doctor.findings("any")
    assert state(found, "GPU") == "missing"
    for what in ("vLLM", "ONNX Runtime on CUDA"):
        assert state(found, what) == "missing"
        assert remedy(found, what) == "run `make setup-vllm GPU=any`"
