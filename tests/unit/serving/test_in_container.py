"""`make docker` and `make serve` for a GPU, on machines that lack one thing after the other."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from build_engines.targets import TARGETS
from serving.machine import container, known_gpus
from serving.machine.known_gpus import GPUS, target_of
from tests.support import standins

REPOSITORY = Path(__file__).parents[3]
H100 = "NVIDIA H100 80GB HBM3, 9.0, 575.57.08, 81559"
DOCKER = """case "$1 $2" in
"version --format") echo 28.2 ;;
"info --format") echo '{"nvidia":{}}' ;;
"image inspect") case "$*" in *audio-flamingo-server*) {ours} ;; *) echo sha256:1 ;; esac ;;
run*) printf '%s\\n' "$@" ;;
esac"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "env", "id"):  # what a bare PATH needs
        (folder / name).symlink_to(shutil.which(name))
    return folder


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def engines(folder: Path) -> Path:
    """engines/h100 with a manifest that can be read."""
    target = TARGETS["h100"]
    manifest = {
        "format": 2,
        "target": "h100",
        "checkpoint": {"name": "af3", "sha256": "0" * 64},
        "precision": {"audio_encoder": "bf16", "llm": "fp8"},
        "limits": target.limits.model_dump(),
        "model": json.loads((REPOSITORY / "tests/unit/serving/model_facts.json").read_text()),
        "tools": {},
        "files": {},
        "verification": {},
        "gpu": standins.GPU["identity"],
    }
    place = folder / "engines" / "h100"
    place.mkdir(parents=True)
    (place / "manifest.json").write_text(json.dumps(manifest))
    return place


def serve(programs: Path, folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "serving.host.launch", "--target", "h100", "--folder", str(folder)]
    return subprocess.run(
        [*command, *options],
        cwd=REPOSITORY,
        env={"PATH": str(programs), "PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_serving_outside_the_container_runs_the_container(programs, tmp_path):
    program(programs, "nvidia-smi", f"echo '{H100}'")
    program(programs, "docker", DOCKER.replace("{ours}", "echo sha256:2"))
    engines(tmp_path)
    log = tmp_path / "logs" / "server.log"
    origins = ("--allow-origin", "https://one.example", "--allow-origin", "https://two.example")
    limit = ("--max-in-flight", "7")
    done = serve(programs, tmp_path, "--http-port", "9000", *limit, *origins, "--log", str(log))
    assert done.returncode == 0, done.stderr
    ran = done.stdout.splitlines()[1:]
    assert ran[0] == "run"
    assert ran[ran.index("--gpus") + 1] == "all"
    published = [ran[place + 1] for place, word in enumerate(ran) if word == "--publish"]
    assert sorted(published) == ["127.0.0.1:8001:8001", "127.0.0.1:8002:8002", "127.0.0.1:9000:8000"]
    assert f"{tmp_path}/engines:/opt/audio-flamingo/engines:ro" in ran
    assert f"{log.parent}:{log.parent}" in ran
    image = ran.index(container.GPU_IMAGE)
    assert ran[image + 1 :] == ["--target", "h100", *limit, *origins, "--log", str(log)]
    assert (tmp_path / "engines" / "gpu").readlink() == Path("h100")


def test_one_gpu_of_several_is_handed_in(programs, tmp_path):
    program(programs, "nvidia-smi", f"echo '{H100}'")
    program(programs, "docker", DOCKER.replace("{ours}", "echo sha256:2"))
    engines(tmp_path)
    done = serve(programs, tmp_path, CUDA_VISIBLE_DEVICES="1")
    ran = done.stdout.splitlines()[1:]
    assert ran[ran.index("--gpus") + 1] == '"device=1"'


def test_a_machine_without_anything_is_told_what_is_missing_in_order(programs, tmp_path):
    done = serve(programs, tmp_path)
    assert done.returncode == 2
    assert done.stdout.startswith("$ docker run ")
    assert re.findall(r"MISSING  ([^:]+):", done.stderr) == ["GPU", "Docker", "engines"]
    assert "make engines GPU=h100" in done.stderr


def test_an_image_that_is_not_built_yet_is_missing(programs, tmp_path):
    program(programs, "nvidia-smi", f"echo '{H100}'")
    program(programs, "docker", DOCKER.replace("{ours}", "exit 1"))
    engines(tmp_path)
    done = serve(programs, tmp_path)
    assert re.findall(r"MISSING  ([^:]+):", done.stderr) == ["server image"]
    assert "`make docker GPU=h100`" in done.stderr


def test_engines_of_another_gpu_are_not_served(programs, tmp_path):
    program(programs, "nvidia-smi", "echo 'NVIDIA L40S, 8.9, 575.57.08, 46068'")
    program(programs, "docker", DOCKER.replace("{ours}", "echo sha256:2"))
    engines(tmp_path)
    done = serve(programs, tmp_path)
    assert done.returncode == 2
    assert "NVIDIA L40S" in done.stderr
    assert "it is no H100" in done.stderr
    assert not (tmp_path / "engines" / "gpu").exists()


def make(programs: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["make", "--no-print-directory", f"PYTHON={sys.executable}", *words],
        cwd=REPOSITORY,
        env=os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("gpu", "dockerfile", "tag"),
    [("cpu", "docker/Dockerfile.cpu", "cpu"), ("h100", "docker/Dockerfile", "gpu")],
)
def test_make_docker_builds_the_image_that_serves_the_target(programs, gpu, dockerfile, tag):
    program(programs, "docker", 'echo "docker $*"')
    done = make(programs, "docker", f"GPU={gpu}")
    words = f"docker build --file {dockerfile} --tag audio-flamingo-server:{tag} ."
    assert done.stdout.splitlines() == [f"$ {words}", words]


@pytest.mark.parametrize(("gpu", "dockerfile"), [("cpu", "Dockerfile.cpu"), ("h100", "Dockerfile")])
def test_make_docker_pins_the_bytes_of_the_base_image(programs, gpu, dockerfile):
    program(programs, "docker", 'echo "docker $*"')
    base = f"registry.example/base@sha256:{'0' * 64}"
    ran = make(programs, "docker", f"GPU={gpu}", f"BASE={base}").stdout.splitlines()[-1]
    assert f" --build-arg BASE={base} " in ran
    # What the Dockerfile makes of it.
    lines = (REPOSITORY / "docker" / dockerfile).read_text().splitlines()
    assert [line for line in lines if line.startswith("FROM ")] == ["FROM ${BASE}"]
    assert any(line.startswith("ARG BASE=") for line in lines[: lines.index("FROM ${BASE}")])


def test_without_docker_the_command_is_printed_and_what_is_missing(programs, monkeypatch):
    done = subprocess.run(
        [sys.executable, "-m", "serving.machine.container", "--target", "h100"],
        cwd=REPOSITORY,
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("$ docker build --file docker/Dockerfile --tag audio-flamingo-server:gpu")
    assert "docker is not installed here" in done.stderr


@pytest.mark.parametrize("file", ["README.md", "docs/gpu.md"])
def test_the_commands_of_the_documents_build_the_gpu_image_where_they_serve_a_gpu(file):
    for line in (REPOSITORY / file).read_text().splitlines():
        if "make docker" in line and "make serve GPU=" in line:
            assert re.search(r"make docker GPU=\w+", line), line


def test_the_virtual_environment_is_made_where_python_has_no_venv(programs, tmp_path):
    """NVIDIA's image: `python3 -m venv` dies without ensurepip, virtualenv is there."""
    program(
        programs,
        "python3",
        f'case "$2" in venv) echo "ensurepip is not available" >&2; exit 1;; '
        f'virtualenv) exec {sys.executable} -m venv --without-pip "$3";; *) exec {sys.executable} "$@";; esac',
    )
    python = tmp_path / "venv" / "bin" / "python"
    done = make(programs, f"VENV={tmp_path / 'venv'}", f"PYTHON={programs / 'python3'}", str(python))
    assert done.returncode == 0, done.stderr
    assert subprocess.run([python, "-c", ""], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA A10", None),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("Tesla T4", None),
    ],
)
def test_a_product_name_has_one_target(name, target):
    assert target_of(name) == target
    assert sum(known.is_one(name) for known in GPUS.values()) == (target is not None)


def test_gpu_auto_asks_and_says_what_it_chose(programs):
    program(programs, "nvidia-smi", "echo 'NVIDIA L4, 8.9'")
    program(programs, "docker", 'echo "docker $*"')
    done = make(programs, "docker", "GPU=auto")
    assert "GPU=auto: NVIDIA L4, so GPU=l4" in done.stderr
    assert "--tag audio-flamingo-server:gpu" in done.stdout


def test_gpu_auto_is_a_cpu_where_there_is_no_gpu(programs):
    program(programs, "nvidia-smi", "exit 9")
    program(programs, "docker", 'echo "docker $*"')
    done = make(programs, "docker", "GPU=auto")
    assert "GPU=auto: nvidia-smi finds no GPU here, so GPU=cpu" in done.stderr
    assert "--tag audio-flamingo-server:cpu" in done.stdout


def test_gpu_auto_names_the_targets_where_there_is_none_for_this_gpu(programs):
    program(programs, "nvidia-smi", "echo 'Tesla T4, 7.5'")
    done = make(programs, "docker", "GPU=auto")
    assert done.returncode != 0
    assert "no target is for the Tesla T4" in done.stderr
    assert set(re.findall(r"\w+", done.stderr)) >= set(known_gpus.GPUS)


def test_every_known_gpu_has_a_target_and_the_other_way_round():
    assert set(TARGETS) == set(GPUS)
