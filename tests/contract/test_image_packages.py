"""What pip would install into the GPU image: resolved for real against the packages it is recorded to have."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info < (3, 11):
    pytest.skip("tomllib came with Python 3.11", allow_module_level=True)
import tomllib

REPOSITORY = Path(__file__).parents[2]
INSTALLED = [
    line
    for line in Path(__file__).with_name("image_packages.txt").read_text().splitlines()
    if not line.startswith("#")
]
# Published without wheels, in Python alone: pip builds them in the image, and here before it resolves.
SOURCE_ONLY = ("docopt",)
WHEELS = "wheels"
spec = importlib.util.spec_from_file_location("image_packages", REPOSITORY / "docker" / "image_packages.py")
image_packages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(image_packages)


def versions(lines: list[str]) -> dict[str, str]:
    pairs = (line.split("==") for line in lines)
    return {image_packages.canonical(name): version for name, version in pairs}


def resolve(folder: Path, wanted: list[str], constraints: list[str]) -> dict[str, str]:
    """Package → version that pip would install for the image's Python. Raises CalledProcessError without one."""
    (folder / "wanted.txt").write_text("\n".join(wanted))
    (folder / "held.txt").write_text("\n".join(constraints))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--python-version", "3.12", "--only-binary=:all:", "--report", str(folder / "report.json")]
    command += [
        "--find-links",
        str(folder.parent / WHEELS),
        "--target",
        str(folder / "nothing is written here"),
    ]  # pip asks for one
    command += ["--constraint", str(folder / "held.txt"), "--requirement", str(folder / "wanted.txt")]
    subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads((folder / "report.json").read_text())
    return {
        image_packages.canonical(found["metadata"]["name"]): found["metadata"]["version"]
        for found in report["install"]
    }


@pytest.fixture(scope="module")
def wanted() -> list[str]:
    return image_packages.wanted(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"])


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A skip where no package index answers."""
    wheels = tmp_path_factory.getbasetemp() / WHEELS
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels)]
    try:
        subprocess.run([*build, *SOURCE_ONLY], capture_output=True, text=True, check=True)
        resolve(tmp_path_factory.mktemp("index"), ["tqdm"], [])
    except subprocess.CalledProcessError:
        pytest.skip("no package index can be reached")


@pytest.mark.usefixtures("index")
def test_everything_the_server_imports_installs_beside_nvidias_stack(tmp_path, wanted):
    held = image_packages.held(INSTALLED)
    resolved = resolve(tmp_path, wanted, held)
    names = {image_packages.name_of(requirement) for requirement in wanted}
    assert names <= set(resolved)
    for name, version in versions(held).items():
        assert resolved.get(name, version) == version, name


@pytest.mark.usefixtures("index")
def test_a_package_too_new_for_the_image_has_no_solution(tmp_path, wanted):
    """The test above can fail: it did, for tokenizers>=0.22 and for tritonclient with its dependencies."""
    for more in (["tokenizers>=0.22"], ["transformers>=5"]):
        with pytest.raises(subprocess.CalledProcessError):
            resolve(tmp_path, [*wanted, *more], image_packages.held(INSTALLED))


def test_all_of_nvidias_stack_is_held_and_nothing_else():
    held = set(versions(image_packages.held(INSTALLED)))
    assert {"torch", "tensorrt", "tensorrt-llm", "transformers", "tokenizers", "numpy"} <= held
    assert not {"grpcio", "protobuf", "pydantic", "setuptools"} & held


def test_tritonclient_is_wanted_alone_with_what_it_imports(wanted):
    names = {image_packages.name_of(requirement) for requirement in wanted}
    assert image_packages.ALONE not in names
    assert set(image_packages.ALONE_IMPORTS) <= names
    dockerfile = (REPOSITORY / "docker" / "Dockerfile").read_text()
    assert "--no-deps tritonclient==" in dockerfile


NOT_IN_THE_IMAGE = "soundfile soxr onnxruntime espeakng_loader starlette uvicorn tritonclient rich".split()
RUN_IN_THE_BARE_IMAGE = ("build_engines.llm.fp8", "serving.machine.gpu", "perf.acceptance.image_checks")


@pytest.mark.parametrize("module", RUN_IN_THE_BARE_IMAGE)
def test_what_the_build_runs_in_nvidias_own_image_imports_nothing_that_is_not_there(module):
    script = f"import sys; sys.modules.update(dict.fromkeys({NOT_IN_THE_IMAGE})); import {module}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-800:]


@pytest.mark.parametrize("lock", sorted(REPOSITORY.glob("requirements*.lock")), ids=lambda path: path.name)
def test_every_line_of_a_lock_is_a_requirement_a_hash_or_a_comment(lock):
    """A conflict that was committed stood in one, and `make setup` failed."""
    strange = [
        line
        for line in lock.read_text().splitlines()
        if line.strip() and not re.match(r"\s*(#|--\w|[A-Za-z0-9])", line)
    ]
    assert strange == []
