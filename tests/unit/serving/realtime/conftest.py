"""One door before one stand-in of Triton for all tests of Realtime, and a client of it."""

from collections.abc import Iterator

import pytest

from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.realtime_client import Talker
from tests.support.realtime_door import address, door_before


@pytest.fixture(scope="package")
def triton() -> Iterator[FakeTriton]:
    with FakeTriton() as fake:
        yield fake


@pytest.fixture(scope="package")
def door(triton: FakeTriton) -> Iterator[Door]:
    with door_before(triton) as made:
        yield made


@pytest.fixture
def talker(door: Door) -> Iterator[Talker]:
    with Talker(address(door)) as connected:
        yield connected
