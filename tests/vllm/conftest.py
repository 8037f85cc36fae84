"""The vLLM leaf in an environment of its own (`make setup-vllm`); without that nothing here is collected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress
from serving.host.probe import answers
from serving.host.triton import Server
from serving.machine.gpu import VLLM_LINK, link_engines
from tests.support.ready_server import ready_server

if TYPE_CHECKING:
    from build_engines.source.think import Adapter
    from tests.support.engines import BuiltEngines
    from tests.support.vllm import Leaf

REPOSITORY = Path(__file__).parents[2]
HOST = "127.0.0.1"

collect_ignore_glob = [] if (REPOSITORY / ".venv-vllm" / "bin" / "python").exists() else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/vllm" in item.path.as_posix():
            item.add_marker(
                pytest.mark.timeout(900)
            )  # vLLM starts in half a minute, or in four on a busy machine


@contextmanager
def vllm_triton(folder: Path) -> Iterator[Server]:
    """tritonserver on the `vllm` configs and `folder/engines/vllm`."""
    from tests.support.vllm import START_TIMEOUT_S

    log = folder / "server.log"
    log.unlink(missing_ok=True)
    with ready_server(
        folder, log, "vllm", lambda server: answers(server.url, 60), START_TIMEOUT_S
    ) as running:
        yield running


@contextmanager
def door_before(triton: Server) -> Iterator[Door]:
    with Door(TritonAddress(triton.ports, ""), HOST, claim(Ports(0, 0, 0), HOST)) as door:
        door.admission.ready = True
        yield door


@contextmanager
def vllm_door(folder: Path) -> Iterator[Door]:
    with vllm_triton(folder) as triton, door_before(triton) as door:
        yield door


class Built:
    """Engines for vLLM of the random checkpoint, with an adapter to think with."""

    def __init__(self, random: BuiltEngines):
        from tests.support import vllm

        folder = random.engines.parents[1] / "vllm" / "engines"
        vllm.write_adapter(random.checkpoint, folder.parent / "adapter")
        self.engines = folder / "cpu-vllm"
        adapters = vllm.build(random.checkpoint, self.engines, {"think": folder.parent / "adapter"})
        self.adapter: Adapter = adapters["think"]
        self.folder = folder.parent
        link_engines(self.engines, VLLM_LINK)


@pytest.fixture(scope="session")
def built(engines: BuiltEngines) -> Built:
    return Built(engines)


@pytest.fixture(scope="session")
def triton(built: Built) -> Iterator[Server]:
    with vllm_triton(built.folder) as running:
        yield running


@pytest.fixture(scope="session")
def server(triton: Server) -> Iterator[Door]:
    """The door before it."""
    with door_before(triton) as door:
        yield door


@pytest.fixture
def url(server: Door) -> str:
    return server.url


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leaf]:
    """vLLM on af3-tiny, without Triton."""
    from tests.support import vllm

    engines = REPOSITORY / ".cache" / "tests" / "vllm-tiny" / "cpu-vllm"
    vllm.build(REPOSITORY / "checkpoints" / "af3-tiny", engines, {})
    leaf = vllm.Leaf(engines)
    yield leaf
    leaf.engine.close()
