"""The live server of the end-to-end tests, before clients of an environment of their own (make test-clients)."""

from pathlib import Path

import pytest

from serving.host.triton import REPOSITORY
from tests.e2e.conftest import server, triton

__all__ = ["server", "triton"]


@pytest.fixture(scope="session")
def clients_python() -> Path:
    """The Python that has requirements/clients.txt."""
    python = REPOSITORY / ".venv-clients" / "bin" / "python"
    if not python.is_file():
        pytest.fail("no .venv-clients; run make test-clients")
    return python
