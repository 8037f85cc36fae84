"""Session fixtures of the parity tests alone."""

import pytest

from tests.support.engines import BuiltEngines, build_random_engines


@pytest.fixture(scope="session")
def int4_engines() -> BuiltEngines:
    """Engines of the random checkpoint with an int4 decoder."""
    return build_random_engines(precision="int4")
