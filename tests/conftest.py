"""Fixtures shared by the parity and the end-to-end tests.

Torch and Transformers are imported in the fixtures: a unit test that needs neither starts in a second.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.engines import BuiltEngines
    from tests.support.oracle import Oracle

# A run in the background of a script ignores Ctrl-C, and so would every process that the tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What `make test` hands to one of its processes as a whole: a file, and every test of the one live server."""
    for item in items:
        live = "triton" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("the live server" if live else item.path.stem))


@pytest.fixture(scope="session")
def engines() -> BuiltEngines:
    """fp32 engines of the random checkpoint."""
    from tests.support.engines import build_random_engines

    return build_random_engines()


@pytest.fixture(scope="session")
def oracle(engines: BuiltEngines) -> Oracle:
    """Transformers on the random checkpoint, on one thread so that sums are ordered the same in every run."""
    import torch

    from tests.support.oracle import Oracle

    torch.set_num_threads(1)
    return Oracle(engines.checkpoint)
