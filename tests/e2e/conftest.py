"""One live server for the whole run, on free ports, always stopped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.ready import answers
from serving.server import Ports, Server
from tests.engines import BuiltEngines


@pytest.fixture(scope="session")
def server(engines: BuiltEngines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """tritonserver on the engines of the random checkpoint."""
    folder: Path = tmp_path_factory.mktemp("serving")
    (folder / "engines").symlink_to(engines.engines.parent)
    with Server("cpu", folder, folder / "server.log", Ports(0, 0, 0)) as running:
        running.wait_until(lambda: answers(running.url), timeout_s=120)
        yield running


@pytest.fixture
def url(server: Server) -> str:
    """gRPC address of the live server."""
    return server.url
