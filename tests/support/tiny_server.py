"""What `make serve` serves: af3-tiny, the small checkpoint that understands its samples, behind the door."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from af3.speech.catalogue import available_voices
from build_engines.source.checkpoint import open_checkpoint
from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress
from serving.host.probe import answers
from serving.host.triton import Server
from tests.support.engines import CACHE, build_cpu_engines

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "af3-tiny"
HOST = "127.0.0.1"


@contextmanager
def tiny_server(folder: Path) -> Iterator[Door]:
    engines = CACHE / "engines-af3-tiny"
    build_cpu_engines(open_checkpoint(str(CHECKPOINT)), "fp32", engines / "cpu")
    (folder / "engines").symlink_to(engines)
    with Server("cpu", folder, folder / "server.log", Ports(0, 0, 0)) as triton:
        triton.wait_until(lambda: answers(triton.url), timeout_s=120)
        address, ports = TritonAddress(triton.ports, ""), claim(Ports(0, 0, 0), HOST)
        with Door(address, HOST, ports, voices=available_voices(engines / "cpu")) as door:
            door.admission.ready = True
            yield door
