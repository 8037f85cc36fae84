"""A door before a stand-in of Triton, for each file of tests that has none of its own."""

from collections.abc import Iterator

import pytest

from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.stand_in_door import door_before


@pytest.fixture(scope="module")
def triton() -> Iterator[FakeTriton]:
    with FakeTriton() as fake:
        yield fake


@pytest.fixture
def own_triton() -> Iterator[FakeTriton]:
    """For one test: it has seen nothing."""
    with FakeTriton() as fake:
        yield fake


@pytest.fixture(scope="module")
def door(triton: FakeTriton) -> Iterator[Door]:
    with door_before(triton) as made:
        yield made
