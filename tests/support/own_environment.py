"""Environments of their own, for tests of what is too large for the common one."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.host.triton import REPOSITORY


def python_of(name: str) -> Path:
    """Returns the Python of .venv-NAME, which `make test-NAME` sets up; fails the test where it is missing."""
    python = REPOSITORY / f".venv-{name}" / "bin" / "python"
    if not python.is_file():
        pytest.fail(f"no .venv-{name}; run make test-{name}")
    return python
