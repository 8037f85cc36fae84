"""Three real servers behind a real Envoy, once for all tests; `make test-cluster`."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.cluster import Cluster
from deploy.envoy import HOST, EnvoyMissing, binary
from deploy.loopback import own_ports
from tests.support.engines import BuiltEngines
from tests.support.named_server import NamedServer

OWN_TIME = pytest.mark.timeout(
    300, func_only=True
)  # the first test also builds engines and starts the servers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(OWN_TIME)


@pytest.fixture(scope="session")
def envoy() -> Path:
    try:
        return binary()
    except EnvoyMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def servers() -> Iterator[list[NamedServer]]:
    """Three that are well and say their names."""
    with ExitStack() as stack:
        found = [NamedServer(HOST, own_ports(), f"server-{number}") for number in range(3)]
        yield [stack.enter_context(one) for one in found]


@pytest.fixture(scope="session")
def cluster(
    envoy: Path, engines: BuiltEngines, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    (folder / "engines").symlink_to(engines.engines.parent)
    with Cluster(3, folder) as running:
        yield running
