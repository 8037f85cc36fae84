"""Real images without a Docker engine: buildah builds and runs them, debootstrap makes the base nobody
can pull.
"""

import os
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BASE = "localhost/af3-test-debian:bookworm-slim"
IMAGE = "localhost/af3-test-server:cpu"
# Beside the engines of the tests, apart from the images of whoever runs them.
STORAGE = REPOSITORY / ".cache" / "tests" / "containers"
# Copies instead of overlays, a chroot instead of namespaces: works inside a container, too.
ENVIRONMENT = os.environ | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
PIP_CONFIG = f"[global]\ncert = {CERTIFICATES}\n"


def missing() -> str | None:
    """Why images cannot be built here, or None."""
    absent = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if absent:
        return f"no {' and no '.join(absent)} here (apt-get install buildah debootstrap)"
    return None if os.getuid() == 0 else "buildah in a chroot needs root"


def command(*words: str) -> list[str]:
    """A buildah command on our own storage."""
    return ["buildah", "--root", str(STORAGE / "root"), "--runroot", str(STORAGE / "run"), *words]


def buildah(*words: str) -> str:
    """Run one buildah command; its output. Raises with that output when it fails."""
    done = subprocess.run(command(*words), env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"buildah {' '.join(words)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout.strip()


def build_base(folder: Path) -> None:
    """A Debian bookworm that trusts whom this machine trusts; kept between runs."""
    if BASE in buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        return
    root = folder / "rootfs"
    words = ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(root)]
    subprocess.run(words, check=True, capture_output=True)
    shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    (root / "etc" / "pip.conf").write_text(PIP_CONFIG)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(root), "/")
    buildah("commit", "--quiet", container, BASE)
    buildah("rm", container)
    shutil.rmtree(root)


def build_image() -> None:
    """docker/Dockerfile.cpu, as `make docker` builds it but for the base. The image before it is removed."""
    file = REPOSITORY / "docker" / "Dockerfile.cpu"
    options = ("--network", "host", "--format", "docker", "--build-arg", f"BASE={BASE}", "--file", str(file))
    buildah("bud", "--quiet", *options, "--tag", IMAGE, str(REPOSITORY))
    buildah("rmi", "--prune", "--force")
