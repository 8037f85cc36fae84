"""The live server of the end-to-end tests, before clients of an environment of their own (make test-clients)."""

from pathlib import Path

import pytest

from tests.e2e.conftest import server, triton
from tests.support.own_environment import python_of

__all__ = ["server", "triton"]


@pytest.fixture(scope="session")
def clients_python() -> Path:
    """The Python that has requirements/clients.txt."""
    return python_of("clients")
