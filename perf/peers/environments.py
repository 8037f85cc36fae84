"""Where each server is installed, and with which Python it runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

VENVS = Path(".venv-peers")
LAUNCHERS = Path(__file__).parent / "launchers"


class PeerError(Exception):
    """A server could not be started; the message holds its last output."""


def python_of(venv: str) -> str:
    python = VENVS / venv / "bin" / "python"
    if not python.exists():
        raise PeerError(f"{python} is missing: make setup-peers")
    return str(python)


def version_of(python: str, package: str) -> str:
    program = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
