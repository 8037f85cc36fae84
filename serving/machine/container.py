"""The images of this repository: python -m serving.machine.container --target h100 builds the one that serves it."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
INSIDE = Path("/opt/audio-flamingo")  # WORKDIR of both images
CPU_IMAGE, GPU_IMAGE = "audio-flamingo-server:cpu", "audio-flamingo-server:gpu"
# Tensors pass between Triton and the Python steps through /dev/shm; Docker's own 64 MB hold one long clip.
SHARED_MEMORY = "8g"


def image_of(target: str) -> str:
    return CPU_IMAGE if target == "cpu" else GPU_IMAGE


def build_command(target: str, base: str = "") -> list[str]:
    """`docker build` of the image that serves a target; the repository is its context. base: not the Dockerfile's."""
    dockerfile = "docker/Dockerfile.cpu" if target == "cpu" else "docker/Dockerfile"
    on = ("--build-arg", f"BASE={base}") if base else ()
    return ["docker", "build", "--file", dockerfile, *on, "--tag", image_of(target), "."]


def serve_command(
    target: str, engines: Path, ports: Sequence[str], folders: Sequence[Path], arguments: Sequence[str]
) -> list[str]:
    """`docker run` of the server.

    engines: the folder `engines/` of this machine, read-only inside. ports: as `--publish` takes them. folders:
    reached inside at their own paths (certificates, logs). arguments: further ones of serving.host.launch.
    """
    return [
        *("docker", "run", "--rm", "--init", "--gpus", visible_gpus()),
        *("--shm-size", SHARED_MEMORY, "--ulimit", "memlock=-1", "--ulimit", "stack=67108864"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"),
        *("--user", f"{os.getuid()}:{os.getgid()}", "--env", "HOME=/tmp"),
        *(word for port in ports for word in ("--publish", port)),
        *("--volume", f"{engines.resolve()}:{INSIDE}/engines:ro"),
        *(word for folder in folders for word in ("--volume", f"{folder}:{folder}")),
        *(image_of(target), "--target", target, *arguments),
    ]


def visible_gpus() -> str:
    """The value of `--gpus`: every GPU, or those that CUDA_VISIBLE_DEVICES names."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return f'"device={chosen}"' if chosen else "all"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.machine.container", description=__doc__)
    parser.add_argument("--target", default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--base",
        default="",
        help="the base image instead of the Dockerfile's, such as the same one by digest",
    )
    asked = parser.parse_args()
    command = build_command(asked.target, asked.base)
    print(f"$ {shlex.join(command)}", flush=True)
    if shutil.which("docker") is None:
        print(
            "docker is not installed here; https://docs.docker.com/engine/install/ says how", file=sys.stderr
        )
        return 1
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
