"""Fixtures shared by the parity and the end-to-end tests."""

import signal

import pytest
import torch

from tests.support.engines import BuiltEngines, build_random_engines
from tests.support.oracle import Oracle

# A run in the background of a script ignores Ctrl-C, and so would every process that the tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def engines() -> BuiltEngines:
    """fp32 engines of the random checkpoint."""
    return build_random_engines()


@pytest.fixture(scope="session")
def oracle(engines: BuiltEngines) -> Oracle:
    """Transformers on the random checkpoint, on one thread so that sums are ordered the same in every run."""
    torch.set_num_threads(1)
    return Oracle(engines.checkpoint)
