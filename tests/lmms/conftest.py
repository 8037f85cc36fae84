"""The live server of the end-to-end tests, before lmms-eval in an environment of its own (make test-lmms)."""

from pathlib import Path

import pytest

from serving.host.triton import REPOSITORY
from tests.e2e.conftest import server, triton

__all__ = ["server", "triton"]


@pytest.fixture(scope="session")
def lmms_python() -> Path:
    """The Python that has requirements/lmms.txt."""
    python = REPOSITORY / ".venv-lmms" / "bin" / "python"
    if not python.is_file():
        pytest.fail("no .venv-lmms; run make test-lmms")
    return python
