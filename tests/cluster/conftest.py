"""Three real servers behind a real Envoy, once for all tests; `make test-cluster`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cluster import Cluster
from deploy.envoy import EnvoyMissing, binary
from tests.support.engines import BuiltEngines


@pytest.fixture(scope="session")
def cluster(engines: BuiltEngines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        binary()
    except EnvoyMissing as missing:
        pytest.skip(str(missing))
    folder: Path = tmp_path_factory.mktemp("cluster")
    (folder / "engines").symlink_to(engines.engines.parent)
    with Cluster(3, folder) as running:
        yield running
