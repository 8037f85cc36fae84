"""The wheel of the client: one top-level package, one command, and nothing of the server."""

import re
import subprocess
import sys
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SERVER_ONLY = ("onnxruntime", "espeakng-loader", "soundfile", "pydantic", "torch", "transformers")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    code = (
        "import sys; from setuptools import build_meta;"
        f"sys.argv = ['']; print(build_meta.build_wheel({str(folder)!r}))"
    )
    source = folder / "source"
    # A copy, so that no build/ is left in the repository.
    subprocess.run(["git", "checkout-index", "--all", f"--prefix={source}/"], cwd=REPOSITORY, check=True)
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_it_holds_one_package_with_its_model_and_licences(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"audio_flamingo"}
    for file in ("py.typed", "commands/talk.py", "sound/silero/silero_vad_16k.onnx", "sound/silero/LICENSE"):
        assert f"audio_flamingo/{file}" in names
    assert any(re.fullmatch(r".*\.dist-info/licenses/LICENSE", name) for name in names)


def test_it_needs_no_package_of_the_server_and_takes_any_numpy(wheel: Path) -> None:
    needs = metadata(wheel).get_all("Requires-Dist") or []
    always = [need for need in needs if "extra ==" not in need]
    assert "numpy>=1.26" in always
    assert not any(need.startswith(SERVER_ONLY) for need in always)
    assert not any('extra == "client"' in need for need in needs)
    assert [need.split(">")[0] for need in needs if 'extra == "mic"' in need] == ["onnxruntime"]
    assert metadata(wheel)["Requires-Python"] == ">=3.10"


def test_it_runs_away_from_the_repository(wheel: Path, tmp_path: Path) -> None:
    """With the libraries of this environment: only our own code must come from the wheel."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(
        subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    )
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    import grpc

    (site / "libraries.pth").write_text(str(Path(grpc.__file__).parents[1]))
    code = "import sys, audio_flamingo.__main__ as m; sys.argv[0] = 'audio-flamingo'; sys.exit(m.main())"
    for words, said in (
        (["--version"], "audio-flamingo 0."),
        (["ask", "--help"], "usage: audio-flamingo ask"),
    ):
        done = subprocess.run(
            [python, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(said)
    done = subprocess.run(
        [python, "-c", code, "serve"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert "the server is not installed here" in done.stderr
