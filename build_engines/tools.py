"""Runs the commands of TensorRT, TensorRT-LLM and ModelOpt inside the pinned container.

An engine runs only with the TensorRT that built it, so the container that serves also builds. Inside it, commands run
directly; outside, each runs through `docker run` with the repository mounted at the same path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from build_engines.stage import BuildError
from serving.machine.gpu import IMAGE

IMAGE_GB = 30
REPOSITORY = Path(__file__).resolve().parents[1]
FULL_DISK_BYTES = 1 << 28  # with less left after a failure, a full disk was the reason


@dataclass(frozen=True)
class Tools:
    """How commands are started: `prefix` goes before each, `environment` replaces the caller's."""

    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def command(self, words: Sequence[str]) -> list[str]:
        return [*self.prefix, *words]

    def run(self, words: Sequence[str], folder: Path) -> None:
        """Run one command that writes into `folder`; its output goes to the terminal.

        Raises BuildError when the command is missing, fails, or fills the disk.
        """
        print(f"$ {' '.join(self.command(words))}", flush=True)
        code = self._start(words, capture=False).returncode
        if code == 0:
            return
        free = shutil.disk_usage(folder).free
        if free < FULL_DISK_BYTES:
            raise BuildError(
                f"{words[0]} failed: the disk of {folder} is full ({free >> 20} MiB left); make room"
            )
        raise BuildError(f"{words[0]} failed with code {code}; the reason is in its output above")

    def output(self, words: Sequence[str]) -> str:
        """Run a command and return its output. Raises BuildError with the last line when it fails."""
        done = self._start(words, capture=True)
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise BuildError(f"{' '.join(words)} failed with code {done.returncode}: {last}")
        return done.stdout

    def _start(self, words: Sequence[str], capture: bool) -> subprocess.CompletedProcess[str]:
        command = self.command(words)
        try:
            return subprocess.run(
                command, env=dict(self.environment), check=False, capture_output=capture, text=True
            )
        except FileNotFoundError:
            raise BuildError(
                f"{command[0]} is not installed here, and {words[0]} is in {IMAGE}: run this inside it, or "
                "install Docker and the NVIDIA Container Toolkit (`make doctor` says what is missing)"
            ) from None


def here() -> Tools:
    """Tools that run commands in this virtual environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return Tools(environment=os.environ | {"PATH": path})


def find(output: Path) -> Tools:
    """Tools that run commands in the container: directly when already inside, else through Docker.

    output: the folder that engines are written to.
    """
    path = _path_without_venv()
    if shutil.which("trtllm-build", path=path):
        return Tools(environment=os.environ | {"PATH": path, "PYTHONPATH": str(REPOSITORY)})
    return Tools(prefix=docker_prefix(output))


def docker_prefix(output: Path) -> tuple[str, ...]:
    """`docker run` up to the image: all GPUs, this user, repository and output mounted at the same paths."""
    folders = [REPOSITORY]
    if not output.resolve().is_relative_to(REPOSITORY):
        folders.append(output.resolve())
    volumes = [word for folder in folders for word in ("--volume", f"{folder}:{folder}")]
    return (
        *("docker", "run", "--rm", "--gpus", "all", "--ipc", "host"),
        *("--ulimit", "memlock=-1", "--ulimit", "stack=67108864"),
        *("--user", f"{os.getuid()}:{os.getgid()}", "--env", "HOME=/tmp", "--env", "USER=af3"),
        *volumes,
        *("--env", f"PYTHONPATH={REPOSITORY}", "--workdir", str(REPOSITORY), IMAGE),
    )


def _path_without_venv() -> str:
    """PATH without this virtual environment, whose python3 lacks the container's libraries."""
    own = str(Path(sys.prefix) / "bin")
    return os.pathsep.join(part for part in os.environ.get("PATH", "").split(os.pathsep) if part != own)
