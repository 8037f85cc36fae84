"""One live server for the whole run, on free ports, always stopped: Triton, and the front door before it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress
from serving.host.triton import Server
from tests.support.engines import BuiltEngines
from tests.support.ready_server import ready_server

HOST = "127.0.0.1"


@contextmanager
def triton_on(folder: Path) -> Iterator[Server]:
    """A ready tritonserver on `folder/engines/cpu`."""
    with ready_server(folder) as running:
        yield running


@contextmanager
def door_before(triton: Server) -> Iterator[Door]:
    with Door(TritonAddress(triton.ports, ""), HOST, claim(Ports(0, 0, 0), HOST)) as door:
        door.admission.ready = True
        yield door


@pytest.fixture(scope="session")
def triton(engines: BuiltEngines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """tritonserver itself, on the engines of the random checkpoint.

    For what the door does not let through. No stream to it may be broken off while it is written: that can
    block Triton's gRPC threads for good (docs/operations.md).
    """
    folder: Path = tmp_path_factory.mktemp("serving")
    (folder / "engines").symlink_to(engines.engines.parent)
    with triton_on(folder) as running:
        yield running


@pytest.fixture(scope="session")
def server(triton: Server) -> Iterator[Door]:
    """What `make serve` serves: the door."""
    with door_before(triton) as door:
        yield door


@pytest.fixture
def url(server: Door) -> str:
    """gRPC address of the live server."""
    return server.url
