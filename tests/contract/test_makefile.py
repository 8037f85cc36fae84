"""What `make` would run, asked of make itself: nothing but `make engines` replaces engines that are there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
STAMPS = ("ready", "ready-build", "ready-test")
INPUTS = ("requirements.lock", "requirements-server.lock", "requirements-build.lock", "pyproject.toml")
USERS = ("serve", "demo", "eval", "perf")  # of engines/cpu
BUILD = re.compile(r"-m build_engines .*--output (\S+)")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone as make sees it, installed but without engines."""
    (tmp_path / "serving" / "machine").mkdir(parents=True)
    (tmp_path / "checkpoints" / "af3-tiny").mkdir(parents=True)
    for name in ("Makefile", *INPUTS, "serving/machine/install.py"):
        shutil.copyfile(REPOSITORY / name, tmp_path / name)
    (tmp_path / "checkpoints" / "af3-tiny" / "model.safetensors").touch()
    (tmp_path / ".venv").mkdir()
    for stamp in STAMPS:
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


def with_engines(clone: Path, target: str = "cpu") -> Path:
    manifest = clone / "engines" / target / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    return clone


def would_run(clone: Path, *words: str) -> str:
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *words], cwd=clone, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # `test -f FILE || COMMAND` is printed whatever it finds; what it would run is decided here.
    lines = []
    for line in done.stdout.splitlines():
        there = re.match(r"test -f (\S+) \|\| ", line)
        if there is None or not (clone / there[1]).exists():
            lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("target", USERS)
def test_engines_that_are_there_are_used_as_they_are(clone: Path, target: str) -> None:
    asked = would_run(with_engines(clone), target, "CHECKPOINT=other", "PRECISION=int4")
    assert "build_engines" not in asked
    assert "make" not in [line.split()[0] for line in asked.splitlines() if line]


@pytest.mark.parametrize("target", USERS)
def test_engines_that_are_missing_are_built_first(clone: Path, target: str) -> None:
    asked = would_run(clone, target)
    assert "checkpoints/af3-tiny" in asked or "engines GPU=cpu" in asked


def test_the_benchmark_builds_in_a_folder_of_its_own(clone: Path) -> None:
    built = BUILD.findall(would_run(with_engines(clone), "bench"))
    assert built
    assert not any(folder.startswith("engines") for folder in built)


def test_make_engines_builds_over_what_is_there(clone: Path) -> None:
    assert BUILD.findall(would_run(with_engines(clone), "engines")) == ["engines/cpu"]


def test_engines_of_a_gpu_are_never_built_on_the_way(clone: Path) -> None:
    asked = would_run(clone, "serve", "GPU=h100")
    assert BUILD.findall(asked) == []
    assert "-m serving.host.launch --target h100" in asked  # which says what is missing


@pytest.mark.parametrize("target", ["setup", "serve", "doctor"])
def test_serving_needs_neither_torch_nor_test_tools(clone: Path, target: str) -> None:
    for stamp in STAMPS:
        (clone / ".venv" / stamp).unlink()
    asked = would_run(with_engines(clone), target)
    assert "-r requirements-server.lock" in asked
    assert "torch" not in asked
    assert "-r requirements.lock" not in asked


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-server.lock", "requirements-build.lock"])
def test_every_locked_package_has_a_hash(name: str) -> None:
    entries = re.split(r"\n(?=[a-z])", (REPOSITORY / name).read_text())
    assert len(entries) > 20
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_smaller_locks_agree_with_the_whole() -> None:
    def pins(name: str) -> set[str]:
        lines = (REPOSITORY / name).read_text().splitlines()
        return {line.split()[0] for line in lines if re.match("[a-z]", line)}

    assert pins("requirements-server.lock") < pins("requirements-build.lock") < pins("requirements.lock")
    for package in ("torch", "transformers", "pytest", "ruff", "matplotlib"):
        assert not any(pin.startswith(f"{package}==") for pin in pins("requirements-server.lock"))


def test_advisories_are_recorded_from_a_clone_and_the_internet_is_not_asked(clone: Path) -> None:
    asked = would_run(clone, "audit", "ADVISORIES=../advisory-database").splitlines()
    assert asked == [
        ".venv/bin/python -m tests.record_advisories ../advisory-database",
        ".venv/bin/python -m tests.audit --recorded",
    ]


def test_without_a_clone_pip_audit_asks_about_the_locks(clone: Path) -> None:
    asked = would_run(clone, "audit")
    assert "pip-audit -r requirements-$lock.lock --require-hashes" in asked
    assert "-m tests.audit .cache/audit-server.json .cache/audit-build.json" in asked
    assert "record" not in asked


def test_rtx_gets_vllm_and_tensorrt_for_rtx_and_no_container(clone: Path) -> None:
    (clone / "requirements").mkdir()
    for name in ("vllm-gpu.txt", "rtx.txt", "gpu.txt"):
        shutil.copyfile(REPOSITORY / "requirements" / name, clone / "requirements" / name)
    for asked in (would_run(clone, "engines", "GPU=rtx"), would_run(clone, "engines", "GPU=rtx", "LLM=vllm")):
        assert "-r requirements/rtx.txt" in asked and "-r requirements/vllm-gpu.txt" in asked
        assert "onnxruntime" not in asked
        assert BUILD.findall(asked) == ["engines/rtx"]
    assert "-m serving.host.launch --target rtx" in would_run(clone, "serve", "GPU=rtx")
