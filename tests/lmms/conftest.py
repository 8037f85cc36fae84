"""The live server of the end-to-end tests, before lmms-eval in an environment of its own (make test-lmms)."""

from pathlib import Path

import pytest

from tests.e2e.conftest import server, triton
from tests.support.own_environment import python_of

__all__ = ["server", "triton"]


@pytest.fixture(scope="session")
def lmms_python() -> Path:
    """The Python that has requirements/lmms.txt."""
    return python_of("lmms")
